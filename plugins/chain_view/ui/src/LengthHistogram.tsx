// How long the chains are: one bar per length, or per range of lengths where they spread far.
import { axis, Chart } from "./Chart";
import type { Page } from "./DataTable";
import { count, many, share } from "./format";
import { useOwn } from "./hooks";
import type { Palette } from "./palette";
import { Empty, Loading, Trouble } from "./states";
import { useStatus } from "./status";

interface Bin {
  low: number;
  high: number;
  disks: number;
  snapshots: number;
}

const SINGLE_BARS = 32;

export function LengthHistogram() {
  const { data, problem, loading, reload } = useOwn<Page>("query/chain_length_histogram", { limit: 500 });
  const { fleet } = useStatus();
  const limit = fleet.max_chain_length;
  if (problem) return <Trouble problem={problem} retry={reload} />;
  if (!data) return loading ? <Loading what="the chain lengths" /> : null;
  const rows = data.rows as { layers: number; disks: number; snapshots: number }[];
  if (rows.length === 0) return <Empty title="No chain yet" />;
  const bins = binned(rows, limit);
  const total = rows.reduce((sum, row) => sum + row.disks + row.snapshots, 0);
  const over = rows.filter((row) => row.layers > limit).reduce((sum, row) => sum + row.disks + row.snapshots, 0);
  const names = bins.map((bin) => (bin.low === bin.high ? `${bin.low}` : `${bin.low}–${bin.high}`));
  const border = bins.findIndex((bin) => bin.low > limit);
  const option = (colors: Palette, narrow: boolean) => ({
    grid: { left: 52, right: 12, top: 44, bottom: 62 },
    legend: { top: 0, left: 0, textStyle: { color: colors.text }, data: ["disks", "snapshots"] },
    tooltip: { trigger: "axis" },
    xAxis: [
      { ...axis(colors), type: "category", data: names, name: "layers", nameLocation: "middle", nameGap: 46, axisLabel: { color: colors.muted, rotate: 60, fontSize: 11, hideOverlap: true, interval: narrow ? "auto" : 0 } },
      { type: "value", min: 0, max: bins.length, show: false },
    ],
    yAxis: { ...axis(colors), type: "value", minInterval: 1 },
    series: [
      {
        name: "disks",
        type: "bar",
        stack: "heads",
        itemStyle: { color: colors.accent },
        data: bins.map((bin) => bin.disks),
      },
      { name: "snapshots", type: "bar", stack: "heads", itemStyle: { color: colors.second }, data: bins.map((bin) => bin.snapshots) },
      // The limit lies between two bars: it is drawn on an axis of its own, which counts bars.
      { type: "line", xAxisIndex: 1, data: [], markLine: border > 0 ? limitLine(border, limit, colors) : undefined },
    ],
  });
  return (
    <Chart
      title="Chain lengths"
      summary={`${count(over)} of ${many(total, "chain")} (${share(total ? over / total : 0)}) ${over === 1 ? "is" : "are"} longer than the policy's limit of ${many(limit, "layer")}.`}
      height={290}
      version={JSON.stringify(bins)}
      option={option}
      figures={{ columns: ["Layers", "Disks", "Snapshots", "Over the limit"], rows: bins.map((bin, index) => [names[index], count(bin.disks), count(bin.snapshots), bin.low > limit ? "yes" : "no"]) }}
    />
  );
}

function limitLine(border: number, limit: number, colors: Palette): Record<string, unknown> {
  return {
    symbol: "none",
    silent: true,
    lineStyle: { color: colors.danger, type: "dashed", width: 2 },
    label: { formatter: `limit ${limit}`, color: colors.danger, position: "end", distance: 2 },
    data: [{ xAxis: border }],
  };
}

/** Lengths up to the limit one by one; beyond, ranges that double once there are too many for single bars. */
export function binned(rows: { layers: number; disks: number; snapshots: number }[], limit: number): Bin[] {
  const longest = Math.max(...rows.map((row) => row.layers), limit);
  const bins: Bin[] = [];
  let low = 1;
  while (low <= longest) {
    const width = longest <= SINGLE_BARS || low <= Math.min(limit, 16) ? 1 : Math.max(1, 2 ** Math.floor(Math.log2(low) - 1));
    const high = low <= limit ? Math.min(low + width - 1, limit) : low + width - 1;
    bins.push({ low, high, disks: 0, snapshots: 0 });
    low = high + 1;
  }
  for (const row of rows) {
    const bin = bins.find((one) => row.layers >= one.low && row.layers <= one.high);
    if (bin) {
      bin.disks += row.disks;
      bin.snapshots += row.snapshots;
    }
  }
  return bins;
}
