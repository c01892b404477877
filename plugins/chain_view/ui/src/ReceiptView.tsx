// The receipt of one action, as it is kept in the store.
import { Link } from "react-router-dom";
import type { Page } from "./DataTable";
import { bytes, cell, count, time } from "./format";
import { useOwn } from "./hooks";
import { diskPath, ROOT } from "./paths";
import { Badge } from "./RunPanel";
import { Loading, Trouble } from "./states";
import { words } from "./Verdict";

interface Answer {
  action_id: string;
  written_at: string;
  receipt: Record<string, any>;
}

export function ReceiptView({ action }: { action: string }) {
  const { data, problem, loading, reload } = useOwn<Answer>(`receipt/${encodeURIComponent(action)}`);
  return (
    <section className="cw-card" aria-label="Receipt" data-testid="receipt">
      <div className="cw-tools">
        <h2 style={{ margin: 0 }}>Receipt</h2>
        <span className="cw-grow" />
        <Link className="cw-button" to={`${ROOT}/history`}>
          Close
        </Link>
      </div>
      <p className="cw-code" style={{ overflowWrap: "anywhere" }}>
        <bdi>{action}</bdi>
      </p>
      {problem ? <Trouble problem={problem} retry={reload} /> : null}
      {!data && loading ? <Loading what="the receipt" /> : null}
      {data ? <Body answer={data} /> : null}
    </section>
  );
}

function Body({ answer }: { answer: Answer }) {
  const receipt = answer.receipt;
  const proof = receipt.proof as Record<string, unknown> | null;
  const disk = receipt.action?.disk_id as string | undefined;
  return (
    <>
      <p>
        <Badge state={receipt.outcome ?? receipt.state ?? "unknown"} />{" "}
        {disk ? (
          <>
            disk{" "}
            <Link to={diskPath(disk)}>
              <bdi className="cw-name">{disk}</bdi>
            </Link>
            ,{" "}
          </>
        ) : null}
        {receipt.action?.engine ? `engine ${receipt.action.engine}, ` : ""}
        {receipt.layers_before ? `${receipt.layers_before} → ${receipt.layers_after} layers, ` : ""}
        written {time(answer.written_at)}
      </p>
      {receipt.reason ? <p>{words(String(receipt.reason))}</p> : null}
      {receipt.outcome === "published" ? <Freed action={answer.action_id} predicted={receipt.action?.benefit?.freed_bytes} /> : null}
      {receipt.action?.cost && receipt.actual ? <Costs predicted={receipt.action.cost} actual={receipt.actual} /> : null}
      {proof ? (
        <>
          <h3 className="cw-gap">Proof</h3>
          <dl className="cw-facts">
            {Object.entries(proof).map(([name, value]) => (
              <div key={name}>
                <dt>{words(name)}</dt>
                <dd>{name === "bytes_compared" && typeof value === "number" ? bytes(value) : cell(name, value)}</dd>
              </div>
            ))}
          </dl>
        </>
      ) : null}
      <details className="cw-figures">
        <summary>The whole record</summary>
        <pre className="cw-pre" tabIndex={0}>
          {JSON.stringify(receipt, null, 2)}
        </pre>
      </details>
    </>
  );
}

/** What the action freed is known to the inventory: the replaced layers are deleted later. */
function Freed({ action, predicted }: { action: string; predicted?: number }) {
  const { data } = useOwn<Page>("query/receipts", { filter: action, limit: 1 });
  const row = data?.rows[0];
  if (!row) return null;
  const freed = row.actual_freed_bytes as number | null;
  const waiting = Number(row.waiting_layers);
  const forecast = predicted === undefined ? "" : ` Predicted: ${bytes(predicted)}.`;
  if (freed !== null) return <p>{`Freed: ${bytes(freed)}.${forecast}`}</p>;
  if (waiting === 0) return null;
  const layers = waiting === 1 ? "1 replaced layer is" : `${count(waiting)} replaced layers are`;
  return <p>{`Nothing freed yet: ${layers} kept until layer_retire deletes them.${forecast}`}</p>;
}

type Cost = Record<string, number | Record<string, number>>;

function Costs({ predicted, actual }: { predicted: Cost; actual: Cost }) {
  const rows: [string, string][] = [
    ["read_bytes", "Fetched"],
    ["write_bytes", "Sent"],
    ["copy_bytes", "Copied by the store"],
    ["requests", "Requests"],
    ["egress_usd", "Egress"],
    ["seconds", "Time"],
  ];
  return (
    <div className="cw-scroll" tabIndex={0} role="region" aria-label="Predicted and actual cost">
      <table className="cw-table">
        <thead>
          <tr>
            <th scope="col">Cost</th>
            <th scope="col" className="cw-number">
              Predicted
            </th>
            <th scope="col" className="cw-number">
              Actual
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([key, name]) => (
            <tr key={key}>
              <th scope="row">{name}</th>
              <td className="cw-number">{amount(key, predicted[key])}</td>
              <td className="cw-number">{amount(key, actual[key])}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function amount(key: string, value: number | Record<string, number> | undefined): string {
  if (value === undefined) return "–";
  const sum = typeof value === "number" ? value : Object.values(value).reduce((left, right) => left + right, 0);
  return cell(key === "seconds" ? "x_seconds" : key, sum);
}
