// The chain, layer by layer from base to tip: the whole of it as a chart, a page of it as a list.
import { useState, type CSSProperties } from "react";
import { axis, bytesAxis, Chart } from "./Chart";
import { DataTable, Pager, type Page } from "./DataTable";
import { ago, bytes, count, shortId, time } from "./format";
import { useDark, useOwn } from "./hooks";
import { regionColor, type Kind, type Palette } from "./palette";
import { Segments } from "./Segments";
import { Empty, Loading, Trouble } from "./states";
import { useStatus } from "./status";

const PAGE = 100;

interface Layer {
  position: number;
  layer_id: string;
  region: string;
  status: string;
  reason: string | null;
  size_bytes: number;
  visible_bytes: number;
  shadowed_bytes: number;
  zero_bytes: number;
  compressed_bytes: number;
  unknown_bytes: number | null;
  shared_by: number;
  last_modified: string | null;
}

export function ChainView({ disk }: { disk: string }) {
  const [offset, setOffset] = useState(0);
  const [scale, setScale] = useState<"size" | "share">("size");
  const { data, problem, loading, reload } = useOwn<Page>("query/disk_chain", { disk_id: disk, offset, limit: PAGE });
  const layers = (data?.rows ?? []) as unknown as Layer[];
  return (
    <section aria-label="Chain">
      <h2>Chain, from base to tip</h2>
      {problem ? <Trouble problem={problem} retry={reload} /> : null}
      {!data && loading ? <Loading what="the chain" /> : null}
      {data && data.total === 0 ? <Empty title="The inventory knows no layer of this disk">Its head may point nowhere, or the disk is newer than the inventory.</Empty> : null}
      {data && data.total > 0 ? (
        <>
          <ChainChart disk={disk} total={data.total} go={(place) => setOffset(Math.floor(place / PAGE) * PAGE)} />
          <div className="cw-tools">
            <Legend />
            <span className="cw-grow" />
            <Segments label="Length of the bars" value={scale} options={SCALES} change={setScale} />
          </div>
          <ol className="cw-chain" start={data.offset + 1} data-testid="chain" data-layers={data.total}>
            {layers.map((layer, index) => (
              <Row key={layer.layer_id} layer={layer} place={data.offset + index} total={data.total} largest={scale === "size" ? largest(layers) : largest([layer])} />
            ))}
          </ol>
          {data.total > PAGE ? <Pager page={data} limit={PAGE} go={setOffset} what="layers" /> : null}
          <Sharers disk={disk} layers={layers} />
        </>
      ) : null}
    </section>
  );
}

const KINDS: readonly (readonly [Kind, string])[] = [
  ["visible", "visible"],
  ["compressed", "compressed"],
  ["zero", "zero"],
  ["shadowed", "shadowed"],
  ["unknown", "not analysed"],
];

const SCALES = [
  ["size", "Compare sizes"],
  ["share", "Compare shares"],
] as const;

function Legend() {
  return (
    <ul className="cw-legend" aria-label="Patterns of the bars">
      {KINDS.map(([kind, name]) => (
        <li key={kind}>
          <i className={`cw-${kind}`} aria-hidden="true" />
          {name}
        </li>
      ))}
    </ul>
  );
}

function Sharers({ disk, layers }: { disk: string; layers: Layer[] }) {
  const [open, setOpen] = useState(false);
  if (!layers.some((layer) => layer.shared_by > 1)) return null;
  return (
    <details className="cw-figures" onToggle={(event: any) => setOpen(event.currentTarget.open)}>
      <summary>Who else shares these layers</summary>
      {open ? <DataTable query="disk_sharers" caption="Heads that share layers of this chain" params={{ disk_id: disk }} limit={10} empty="No other head" /> : null}
    </details>
  );
}

function largest(layers: Layer[]): number {
  return Math.max(1, ...layers.map((layer) => KINDS.reduce((sum, [kind]) => sum + amount(layer, kind), 0)));
}

function amount(layer: Layer, kind: Kind): number {
  return layer[`${kind}_bytes`] ?? 0;
}

function Row({ layer, place, total, largest }: { layer: Layer; place: number; total: number; largest: number }) {
  const { fleet } = useStatus();
  const dark = useDark();
  const end = place === 0 ? "base" : place === total - 1 ? "tip" : "";
  const style = { "--cw-region": regionColor(layer.region, fleet.regions, dark) } as CSSProperties;
  const parts = KINDS.map(([kind, name]) => [kind, name, amount(layer, kind)] as const).filter(([, , value]) => value > 0);
  return (
    <li className="cw-layer" style={style}>
      <span className="cw-place">{place + 1}</span>
      <span>
        <bdi className="cw-code" title={layer.layer_id}>
          {shortId(layer.layer_id)}
        </bdi>{" "}
        {end ? <span className="cw-badge">{end}</span> : null}
        {layer.status !== "ok" ? <span className="cw-badge cw-bad">{layer.status}</span> : null}
      </span>
      <span className="cw-region-name">
        <bdi>{layer.region}</bdi>
      </span>
      <span className="cw-bar" aria-hidden="true">
        {parts.map(([kind, , value]) => (
          <span key={kind} className={`cw-${kind}`} style={{ width: `${(100 * value) / largest}%` }} />
        ))}
      </span>
      <span className="cw-numbers">
        {bytes(layer.size_bytes)} stored
        {layer.last_modified ? (
          <>
            {" · "}
            <time dateTime={layer.last_modified} title={time(layer.last_modified)}>
                {ago(layer.last_modified)}
              </time>
          </>
        ) : null}
        {layer.shared_by > 1 ? ` · shared by ${count(layer.shared_by)} heads` : ""}
        <span className="cw-muted cw-kinds">
          {parts.map(([, name, value]) => `${bytes(value)} ${name}`).join(", ")}
          {layer.reason ? (
            <>
              {" · "}
              <bdi>{layer.reason}</bdi>
            </>
          ) : null}
        </span>
      </span>
    </li>
  );
}

/** All layers at a glance; up to 1,000 bars, cut into groups beyond that only the first. */
function ChainChart({ disk, total, go }: { disk: string; total: number; go: (place: number) => void }) {
  const { fleet } = useStatus();
  const { data } = useOwn<Page>(total > 1 ? "query/disk_chain" : null, { disk_id: disk, offset: 0, limit: 1000 });
  if (!data || data.rows.length < 2) return null;
  const layers = data.rows as unknown as Layer[];
  const option = (colors: Palette, narrow: boolean) => ({
    grid: { left: narrow ? 56 : 72, right: 12, top: 12, bottom: 36 },
    tooltip: { trigger: "axis", valueFormatter: (value: number) => bytes(value) },
    xAxis: { ...axis(colors), type: "category", data: layers.map((_, index) => index + 1), name: "layer", nameLocation: "middle", nameGap: 22 },
    yAxis: bytesAxis(colors, largest(layers), 3),
    series: KINDS.map(([kind, name]) => ({
      name,
      type: "bar",
      stack: "bytes",
      barCategoryGap: layers.length > 100 ? 0 : "15%",
      itemStyle: { color: colors.kinds[kind] },
      data: layers.map((layer) => amount(layer, kind)),
    })),
  });
  return (
    <Chart
      title="Guest bytes by layer"
      summary={`${count(total)} layers, the base on the left${total > layers.length ? `; the first ${count(layers.length)} are drawn` : ""}; regions: ${[...new Set(layers.map((layer) => layer.region))].filter((name) => fleet.regions.includes(name)).join(", ")}`}
      height={200}
      version={`${disk}-${total}-${layers.length}`}
      option={option}
      onPick={go}
      figures={{
        columns: ["Layer", "Region", "Stored", ...KINDS.map(([, name]) => name)],
        rows: layers.map((layer, index) => [index + 1, layer.region, bytes(layer.size_bytes), ...KINDS.map(([kind]) => bytes(amount(layer, kind)))]),
      }}
    />
  );
}
