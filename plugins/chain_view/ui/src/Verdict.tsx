// What the planner would do with this disk, and why, and why not.
import { bytes, count, many, seconds, shortId, usd } from "./format";
import { useOwn } from "./hooks";
import { Empty, Loading, Trouble } from "./states";

export interface Part {
  layers: number;
  bytes: number;
  top: string | null;
  bottom: string | null;
}

export interface Action {
  action_id: string;
  disk_id: string;
  home_region: string;
  reason: string;
  engine: string;
  engine_reason: string;
  engines_refused: { engine: string; why: string; meaning: string }[];
  layers_before: number;
  layers_after: number;
  above: Part;
  run: Part;
  base: string | null;
  worker_bytes: number;
  copy_bytes: number;
  read_bytes: Record<string, number>;
  write_bytes: Record<string, number>;
  requests: number;
  egress_usd: number;
  temp_bytes: number;
  seconds: number;
  freed_bytes: number;
  memory_bytes: number;
  first_read_seconds: number;
  score: number;
}

export interface Skip {
  disk_id: string;
  reason: string;
  meaning: string;
  detail: string;
}

interface Answer {
  actions: Action[];
  skips: Skip[];
}

export function Verdict({ disk }: { disk: string }) {
  const { data, problem, loading, reload } = useOwn<Answer>("verdict", { disk });
  return (
    <section aria-label="What the planner says">
      <h2>What the planner says</h2>
      {problem ? <Trouble problem={problem} retry={reload} /> : null}
      {!data && loading ? <Loading what="the planner's verdict" /> : null}
      {data && data.actions.length + data.skips.length === 0 ? <Empty title="The planner has nothing to say of this disk" /> : null}
      {data?.actions.map((action) => <ActionCard key={action.action_id} action={action} />)}
      {data?.skips.map((skip, index) => (
        <div key={index} className="cw-card cw-gap">
          <h3>Left alone: {words(skip.reason)}</h3>
          <p>{skip.meaning ? `${sentence(skip.meaning)} ` : ""}</p>
          {skip.detail ? <p className="cw-muted">{skip.detail}</p> : null}
        </div>
      ))}
    </section>
  );
}

function ActionCard({ action }: { action: Action }) {
  return (
    <div className="cw-card cw-gap">
      <h3>
        Would merge {many(action.run.layers, "layer")} with {action.engine}: {count(action.layers_before)} → {many(action.layers_after, "layer")}
      </h3>
      <p>
        Because: {words(action.reason)}. The run ({bytes(action.run.bytes)}) goes onto{" "}
        {action.base ? <bdi className="cw-code">{shortId(action.base)}</bdi> : "nothing: the disk is flattened"}
        {action.above.layers > 0 ? `; ${many(action.above.layers, "layer")} above it ${action.above.layers === 1 ? "gets" : "get"} a new header` : ""}.
      </p>
      <dl className="cw-facts">
        <Fact name="Through the worker" value={bytes(action.worker_bytes)} />
        <Fact name="Copied by the store" value={bytes(action.copy_bytes)} />
        <Fact name="Fetched from" value={byRegion(action.read_bytes)} />
        <Fact name="Sent to" value={byRegion(action.write_bytes)} />
        <Fact name="Egress" value={usd(action.egress_usd)} />
        <Fact name="Takes" value={seconds(action.seconds)} />
        <Fact name="Work directory" value={bytes(action.temp_bytes)} />
        <Fact name="Frees" value={bytes(action.freed_bytes)} />
        <Fact name="Memory per open chain" value={bytes(-action.memory_bytes)} />
        <Fact name="First read" value={seconds(-action.first_read_seconds)} />
      </dl>
      <p className="cw-muted">
        Engine {action.engine}: {words(action.engine_reason)}
      </p>
      {action.engines_refused.length > 0 ? (
        <ul className="cw-steps">
          {action.engines_refused.map((item) => (
            <li key={item.engine}>
              Not {item.engine}: {words(item.why)}
              {item.meaning && !item.why.endsWith(item.meaning) ? <span className="cw-muted"> ({item.meaning})</span> : null}
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

export function words(code: string): string {
  return code.replaceAll("_", " ");
}

function sentence(text: string): string {
  const trimmed = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}

function byRegion(counts: Record<string, number>): string {
  const parts = Object.entries(counts).map(([region, value]) => `${region} ${bytes(value)}`);
  return parts.length > 0 ? parts.join(", ") : "–";
}
