// One stored plan: budgets, actions, and what it leaves alone.
import { useState } from "react";
import { Link } from "react-router-dom";
import { Pager } from "./DataTable";
import { bytes, count, many, seconds, share, time, title, usd } from "./format";
import { useOwn } from "./hooks";
import { diskPath } from "./paths";
import { Empty, Loading, Trouble } from "./states";
import { words, type Action, type Skip } from "./Verdict";

interface Plan {
  plan_id: string;
  snapshot_id: string;
  created_at: string;
  actions: Action[];
  total: number;
  offset: number;
  skips: { reason: string; count: number; meaning: string }[];
  skipped: number;
  budgets: { name: string; used: number; limit: number; share: number; text: string }[];
}

const PAGE = 25;

export function PlanView({ planId }: { planId: string }) {
  const [offset, setOffset] = useState(0);
  const { data, problem, loading, reload } = useOwn<Plan>("plan", { plan_id: planId, offset, limit: PAGE });
  if (problem) return <Trouble problem={problem} retry={reload} />;
  if (!data) return loading ? <Loading what="the plan" /> : null;
  return (
    <>
      <p className="cw-muted">
        <span className="cw-code">{data.plan_id}</span>, made {time(data.created_at)} from snapshot <span className="cw-code">{data.snapshot_id}</span>:{" "}
        {many(data.total, "merge")}, {count(data.skipped)} left alone.
      </p>
      <div className="cw-columns">
        <Budgets budgets={data.budgets} />
        <Skips plan={data} />
      </div>
      <h3 className="cw-gap">Merges</h3>
      {data.total === 0 ? <Empty title="The plan merges nothing" /> : <Actions plan={data} go={setOffset} />}
    </>
  );
}

function Budgets({ budgets }: { budgets: Plan["budgets"] }) {
  return (
    <section className="cw-card" aria-label="Budgets">
      <h3>Budgets</h3>
      <ul className="cw-budgets">
        {budgets.map((budget) => (
          <li key={budget.name}>
            <span>{title(budget.name)}</span>
            <meter min={0} max={1} high={0.9} value={Math.min(1, budget.share)} aria-label={`${title(budget.name)}: ${share(budget.share)} used`} />
            <span className="cw-muted">{budget.text}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Skips({ plan }: { plan: Plan }) {
  const [reason, setReason] = useState("");
  return (
    <section className="cw-card" aria-label="Left alone">
      <h3>Left alone, by reason</h3>
      {plan.skips.length === 0 ? <p className="cw-muted">Nothing.</p> : null}
      <ul className="cw-reasons">
        {plan.skips.map((skip) => (
          <li key={skip.reason}>
            <button type="button" className="cw-link" aria-expanded={reason === skip.reason} onClick={() => setReason(reason === skip.reason ? "" : skip.reason)}>
              {count(skip.count)} × {words(skip.reason)}
            </button>{" "}
            <span className="cw-muted">{skip.meaning}</span>
            {reason === skip.reason ? <SkipList planId={plan.plan_id} reason={reason} /> : null}
          </li>
        ))}
      </ul>
    </section>
  );
}

function SkipList({ planId, reason }: { planId: string; reason: string }) {
  const [offset, setOffset] = useState(0);
  const { data, problem } = useOwn<{ rows: Skip[]; total: number; offset: number }>("skips", { plan_id: planId, reason, offset, limit: 10 });
  if (problem) return <Trouble problem={problem} />;
  if (!data) return <Loading what="the disks" />;
  return (
    <div className="cw-sub">
      <ul className="cw-steps">
        {data.rows.map((skip, index) => (
          <li key={index}>
            <Link to={diskPath(skip.disk_id)}>
              <bdi className="cw-name">{skip.disk_id}</bdi>
            </Link>{" "}
            <span className="cw-muted">{skip.detail}</span>
          </li>
        ))}
      </ul>
      {data.total > 10 ? <Pager page={data} limit={10} go={setOffset} what="disks left alone" /> : null}
    </div>
  );
}

function Actions({ plan, go }: { plan: Plan; go: (offset: number) => void }) {
  return (
    <>
      <div className="cw-scroll" tabIndex={0} role="region" aria-label="Merges of the plan">
        <table className="cw-table">
          <thead>
            <tr>
              {["Disk", "Engine", "Because"].map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
              {["Layers", "Through the worker", "Copied by the store", "Egress", "Takes", "Frees", "Score"].map((name) => (
                <th key={name} scope="col" className="cw-number">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {plan.actions.map((action) => (
              <tr key={action.action_id}>
                <td>
                  <Link to={diskPath(action.disk_id)}>
                    <bdi className="cw-name">{action.disk_id}</bdi>
                  </Link>
                </td>
                <td title={action.engine_reason}>{action.engine}</td>
                <td>{words(action.reason)}</td>
                <td className="cw-number">
                  {count(action.layers_before)} → {count(action.layers_after)}
                </td>
                <td className="cw-number">{bytes(action.worker_bytes)}</td>
                <td className="cw-number">{bytes(action.copy_bytes)}</td>
                <td className="cw-number">{usd(action.egress_usd)}</td>
                <td className="cw-number">{seconds(action.seconds)}</td>
                <td className="cw-number">{bytes(action.freed_bytes)}</td>
                <td className="cw-number">{action.score.toFixed(4)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Pager page={plan} limit={PAGE} go={go} what="merges" />
    </>
  );
}
