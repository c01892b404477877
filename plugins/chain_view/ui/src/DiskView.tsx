// One disk: head, what to do about it, its chain, what was done.
import { ChainView } from "./ChainView";
import { DiskActions } from "./DiskActions";
import { DataTable } from "./DataTable";
import { bytes, cell, count, many, seconds, shortId, time } from "./format";
import { useOwn } from "./hooks";
import type { Problem } from "./api";
import { Badge } from "./RunPanel";
import { Banner, Empty, Loading, Trouble } from "./states";
import { useStatus } from "./status";
import { Verdict } from "./Verdict";

const DONE = [
  "finished_at",
  "outcome",
  "reason",
  "engine",
  "layers_before",
  "layers_after",
  "actual_read_bytes",
  "actual_write_bytes",
  "predicted_freed_bytes",
  "actual_freed_bytes",
  "waiting_layers",
  "actual_seconds",
  "action_id",
];

export interface Head {
  disk_id: string;
  tip: string;
  kind: string;
  home_region: string;
  state: string;
  generation: number;
  host: string | null;
  qmp: string | null;
  lease: { action_id: string; expires_at: string } | null;
  action_id: string | null;
  virtual_size: number;
  updated_at: string;
}

/** `known`: the inventory's row. `head`: the record as it is now; null until it is here, or where there is none. */
export interface DiskFacts {
  known: Record<string, any> | null;
  head: Head | null;
}

export function DiskView({ disk }: { disk: string }) {
  const row = useOwn<{ known: Record<string, any> | null }>("disk", { disk });
  const now = useOwn<{ head: Head | null; problem: Problem | null }>("head", { disk });
  if (row.problem) return <Trouble problem={row.problem} retry={row.reload} />;
  if (!row.data || (!row.data.known && !now.data && !now.problem)) return <Loading what="the disk" />;
  const facts: DiskFacts = { known: row.data.known, head: now.data?.head ?? null };
  if (!facts.known && !facts.head) {
    return (
      <Empty title="There is no such disk">
        Neither the inventory nor the store knows <bdi>{disk}</bdi>.
      </Empty>
    );
  }
  return (
    <>
      <h2>
        <bdi className="cw-title">{disk}</bdi>
      </h2>
      <Notices facts={facts} problem={now.problem ?? now.data?.problem ?? null} />
      <Tiles facts={facts} />
      <div className="cw-columns">
        <HeadCard facts={facts} />
        <DiskActions disk={disk} facts={facts} changed={now.reload} />
      </div>
      <Verdict disk={disk} />
      <ChainView disk={disk} />
      <h2>Done so far</h2>
      <DataTable
        query="receipts"
        caption="Actions on this disk"
        params={{ disk_id: disk }}
        columns={DONE}
        filterable={false}
        limit={10}
        empty="No action on this disk has ended yet"
      />
    </>
  );
}

function Notices({ facts, problem }: { facts: DiskFacts; problem: Problem | null }) {
  const { known, head } = facts;
  const moved = known && head && known.tip_layer_id !== head.tip;
  return (
    <>
      {!known ? (
        <Banner problem={{ code: "new", title: "The inventory does not know this disk yet", detail: "Run a new one to see its chain.", since: head?.updated_at || null }} />
      ) : null}
      {moved ? (
        <Banner
          problem={{
            code: "moved",
            title: "The disk changed after the inventory",
            detail: `Its tip is now ${shortId(head.tip)}. The chain below is the one of the inventory: run a new one to see what it is now.`,
            since: head.updated_at || null,
          }}
        />
      ) : null}
      {problem ? <Banner problem={problem} /> : null}
    </>
  );
}

function Tiles({ facts }: { facts: DiskFacts }) {
  const { fleet } = useStatus();
  const known = facts.known;
  if (!known) return null;
  const layers = Number(known.layers ?? 0);
  return (
    <dl className="cw-tiles" data-testid="disk-tiles">
      <Tile name="Layers" value={known.layers === null ? "–" : count(layers)} note={`limit ${fleet.max_chain_length}`} />
      <Tile name="Stored" value={maybe(known.stored_bytes, bytes)} note={maybe(known.regions, (value) => `in ${many(value, "region")}`)} />
      <Tile name="Layers elsewhere" value={cell("remote_layers", known.remote_layers)} note={`home is ${known.home_region ?? "–"}`} />
      <Tile name="Memory when open" value={maybe(known.memory_bytes, bytes)} note="tables of all layers" />
      <Tile name="First cold read" value={maybe(known.first_read_ms, (value) => seconds(value / 1000))} note="estimated" />
    </dl>
  );
}

function maybe(value: unknown, form: (value: number) => string): string {
  return typeof value === "number" ? form(value) : "–";
}

export function Tile({ name, value, note }: { name: string; value: string; note?: string }) {
  return (
    <div className="cw-tile">
      <dt>{name}</dt>
      <dd>
        {value}
        {note ? <small>{note}</small> : null}
      </dd>
    </div>
  );
}

function HeadCard({ facts }: { facts: DiskFacts }) {
  const { head, known } = facts;
  const facet = (name: string, value: unknown) => (
    <div key={name}>
      <dt>{name}</dt>
      <dd>
        <bdi>{value === null || value === undefined || value === "" ? "–" : String(value)}</bdi>
      </dd>
    </div>
  );
  return (
    <section className="cw-card" aria-label="Head">
      <h3>
        Head <Badge state={head?.state ?? known?.state ?? "unknown"} />
        {known && known.status !== "ok" ? (
          <>
            {" "}
            <Badge state={String(known.status)} />
          </>
        ) : null}
      </h3>
      <dl className="cw-facts">
        {facet("Kind", head?.kind ?? known?.kind)}
        {facet("Home region", head?.home_region ?? known?.home_region)}
        {facet("Tip", head?.tip ?? known?.tip_layer_id)}
        {facet("Generation", head?.generation)}
        {facet("Disk size", head?.virtual_size ? bytes(head.virtual_size) : null)}
        {facet("Changed", head?.updated_at ? time(head.updated_at) : null)}
        {head?.host ? facet("Runs on", head.host) : null}
        {head?.lease ? facet("Leased", `by ${head.lease.action_id} until ${time(head.lease.expires_at)}`) : null}
      </dl>
    </section>
  );
}
