// The current plan with its budgets and reasons, and what was done.
import { useState } from "react";
import { useSearchParams } from "react-router-dom";
import { DataTable } from "./DataTable";
import { time } from "./format";
import { useOwn } from "./hooks";
import { PlanView } from "./PlanView";
import { ReceiptView } from "./ReceiptView";
import { SavingsChart } from "./SavingsChart";
import { Empty, Loading, Trouble } from "./states";

interface Stored {
  plan_id: string;
  stored_at: string;
}

export function HistoryPage() {
  const [search] = useSearchParams();
  const action = search.get("action");
  return (
    <section aria-label="Plan and history">
      {action ? <ReceiptView key={action} action={action} /> : null}
      <Plans />
      <h2>What was done</h2>
      <SavingsChart />
      <h3 className="cw-gap">Outcomes by reason</h3>
      <DataTable query="outcomes" caption="Outcomes by reason" filterable={false} limit={10} empty="No action has ended yet" />
      <h3 className="cw-gap">Actions</h3>
      <DataTable query="receipts" caption="Actions" sort="finished_at" desc empty="No action has ended yet" />
    </section>
  );
}

function Plans() {
  const { data, problem, loading, reload } = useOwn<Stored[]>("plans");
  const [chosen, setChosen] = useState("");
  return (
    <>
      <h2>Plan</h2>
      {problem ? <Trouble problem={problem} retry={reload} /> : null}
      {!data && loading ? <Loading what="the plans" /> : null}
      {data && data.length === 0 ? (
        <Empty title="No plan yet">The DAG chain_maintenance makes one after each inventory; a dry run of a disk makes one too.</Empty>
      ) : null}
      {data && data.length > 0 ? (
        <>
          <div className="cw-tools">
            <label className="cw-field">
              <span>Plan of</span>
              <select value={chosen || data[0]!.plan_id} onChange={(event: any) => setChosen(event.target.value)}>
                {data.map((plan) => (
                  <option key={plan.plan_id} value={plan.plan_id}>
                    {time(plan.stored_at)}
                  </option>
                ))}
              </select>
            </label>
          </div>
          <PlanView key={chosen || data[0]!.plan_id} planId={chosen || data[0]!.plan_id} />
        </>
      ) : null}
    </>
  );
}
