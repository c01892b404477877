// Buttons that start a run for this disk through Airflow's API, as the user, and follow it.
import { useState } from "react";
import type { Problem } from "./api";
import { own } from "./api";
import { problemFrom } from "./hooks";
import { RunPanel } from "./RunPanel";
import { startRun, useRun, type Run } from "./runs";
import { Trouble } from "./states";
import { useStatus } from "./status";
import type { DiskFacts } from "./DiskView";

interface Props {
  disk: string;
  facts: DiskFacts;
  changed: () => void;
}

export function DiskActions({ disk, facts, changed }: Props) {
  const { may, fleet, reload } = useStatus();
  const [region, setRegion] = useState(facts.head?.home_region ?? facts.known?.home_region ?? fleet.control_region);
  const [engine, setEngine] = useState("auto");
  const [sure, setSure] = useState(false);
  const [started, setStarted] = useState<{ title: string; run: Run } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const followed = useRun(started?.run ?? null, () => {
    setBusy(false);
    void own("recheck", {}, undefined, "POST").finally(() => {
      changed();
      reload();
    });
  });
  const start = async (title: string, dag: string, conf: Record<string, unknown>) => {
    setBusy(true);
    setProblem(null);
    setSure(false);
    try {
      setStarted({ title, run: await startRun(dag, conf) });
    } catch (error) {
      setProblem(problemFrom(error));
      setBusy(false);
    }
  };
  const merge = (dry: boolean) =>
    start(dry ? "Dry run of a merge" : "Merge", "disk_maintenance", { disk, action: "merge", engine, dry_run: dry });
  const warm = () => start(`Warming for ${region}`, "cache_warm", { disk, region, dry_run: false });
  const mayMerge = may.disk_maintenance ?? false;
  const mayWarm = may.cache_warm ?? false;
  return (
    <section className="cw-card" aria-label="Actions">
      <h3>Actions</h3>
      {mayMerge || mayWarm ? null : <p className="cw-muted">Your role may look, but not start runs: the buttons are off.</p>}
      <div className="cw-tools">
        <label className="cw-field">
          <span>Engine</span>
          <select value={engine} onChange={(event: any) => setEngine(event.target.value)} disabled={!mayMerge}>
            {["auto", "rebase", "stream", "compose", "live"].map((name) => (
              <option key={name} value={name}>
                {name === "auto" ? "as the planner chooses" : name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" className="cw-button" disabled={!mayMerge || busy} onClick={() => merge(true)}>
          Dry run
        </button>
        {sure ? (
          <>
            <button type="button" className="cw-button cw-primary" disabled={busy} onClick={() => merge(false)}>
              Yes, merge now
            </button>
            <button type="button" className="cw-button" onClick={() => setSure(false)}>
              No
            </button>
          </>
        ) : (
          <button type="button" className="cw-button cw-primary" disabled={!mayMerge || busy} onClick={() => setSure(true)}>
            Merge…
          </button>
        )}
      </div>
      <div className="cw-tools">
        <label className="cw-field">
          <span>Region</span>
          <select value={region} onChange={(event: any) => setRegion(event.target.value)} disabled={!mayWarm}>
            {fleet.regions.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" className="cw-button" disabled={!mayWarm || busy} onClick={warm}>
          Warm the cache
        </button>
        <button
          type="button"
          className="cw-button"
          disabled={!(may.chain_inventory ?? false) || busy}
          onClick={() => start("Inventory", "chain_inventory", {})}
        >
          New inventory
        </button>
      </div>
      {problem ? <Trouble problem={problem} /> : null}
      {started ? <RunPanel title={started.title} followed={followed} /> : null}
    </section>
  );
}
