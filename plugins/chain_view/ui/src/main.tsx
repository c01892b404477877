// Entry point: Airflow's UI imports this file and renders the function that it leaves on the global object.
import { Component, useEffect, type ReactNode } from "react";
import { NavLink, Route, Routes } from "react-router-dom";
import { DiskPage } from "./DiskPage";
import { FindingsPage } from "./FindingsPage";
import { FleetPage } from "./FleetPage";
import { ago, time } from "./format";
import { HistoryPage } from "./HistoryPage";
import { SnapshotContext, useOwn } from "./hooks";
import { ROOT } from "./paths";
import { Banner, Empty, Loading, Trouble } from "./states";
import { StatusContext, type Status } from "./status";
import styles from "./style.css";

const LOOK_MS = 30_000; // how often an open page looks for a newer snapshot

function Chainwright() {
  const { data, problem, loading, reload } = useOwn<Status>("status");
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") reload();
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <div className="cw-root">
      <style>{styles}</style>
      <header className="cw-header">
        <h1>Chainwright</h1>
        <Tabs />
        {data?.snapshot ? (
          <p className="cw-muted cw-asof">
            Inventory of <time dateTime={data.snapshot.created_at}>{time(data.snapshot.created_at)}</time> ({ago(data.snapshot.created_at)}){" "}
            <button type="button" className="cw-link" onClick={reload}>
              Refresh
            </button>
          </p>
        ) : null}
      </header>
      <div className="cw-main">
        {data?.warning ? <Banner problem={data.warning} /> : null}
        {problem ? <Trouble problem={problem} retry={reload} /> : null}
        {!data && loading ? <Loading what="the fleet's state" /> : null}
        {data?.problem ? <Trouble problem={data.problem} retry={reload} /> : null}
        {data?.fleet && data.snapshot ? (
          <StatusContext.Provider value={{ ...data, fleet: data.fleet, snapshot: data.snapshot, reload }}>
            <SnapshotContext.Provider value={data.snapshot.id}>
              <Pages />
            </SnapshotContext.Provider>
          </StatusContext.Provider>
        ) : null}
      </div>
    </div>
  );
}

function Tabs() {
  const tabs: [string, string][] = [
    ["", "Fleet"],
    ["/disk", "Disk"],
    ["/findings", "Findings"],
    ["/history", "Plan and history"],
  ];
  return (
    <nav className="cw-tabs" aria-label="Chainwright pages">
      {tabs.map(([path, name]) => (
        <NavLink key={path} to={`${ROOT}${path}`} end={path === ""}>
          {name}
        </NavLink>
      ))}
    </nav>
  );
}

function Pages() {
  return (
    <Routes>
      <Route path="" element={<FleetPage />} />
      <Route path="disk" element={<DiskPage />} />
      <Route path="findings" element={<FindingsPage />} />
      <Route path="history" element={<HistoryPage />} />
      <Route path="*" element={<Empty title="There is no such page" />} />
    </Routes>
  );
}

/** A page that throws says so, and leaves Airflow's own navigation alone. */
class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };
  static getDerivedStateFromError(error: Error) {
    return { error };
  }
  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <Trouble
        problem={{ code: "client", title: "The page failed", detail: String(this.state.error), since: null }}
        retry={() => this.setState({ error: null })}
      />
    );
  }
}

(globalThis as any).Chainwright = function ChainwrightApp() {
  return (
    <Boundary>
      <Chainwright />
    </Boundary>
  );
};
