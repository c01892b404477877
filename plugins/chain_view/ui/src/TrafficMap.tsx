// Who reads from where: reader region by layer region.
import { useState } from "react";
import { axis, Chart } from "./Chart";
import type { Page } from "./DataTable";
import { bytes, seconds, usd } from "./format";
import { useOwn } from "./hooks";
import type { Palette } from "./palette";
import { Segments } from "./Segments";
import { Empty, Loading, Trouble } from "./states";
import { useStatus } from "./status";

interface Pair {
  reader_region: string;
  layer_region: string;
  requests: number;
  bytes: number;
  upstream_bytes: number;
  p50_ms: number | null;
  p99_ms: number | null;
  egress_usd: number;
}

type Metric = "bytes" | "upstream_bytes" | "p99_ms" | "egress_usd";

const METRICS: readonly (readonly [Metric, string])[] = [
  ["bytes", "Bytes read"],
  ["upstream_bytes", "Fetched"],
  ["p99_ms", "Latency (p99)"],
  ["egress_usd", "Money"],
];

function shown(metric: Metric, value: number): string {
  if (metric === "egress_usd") return usd(value);
  return metric === "p99_ms" ? seconds(value / 1e3) : bytes(value);
}

export function TrafficMap() {
  const [metric, setMetric] = useState<Metric>("bytes");
  const { data, problem, loading, reload } = useOwn<Page>("query/cross_region_hotspots", { limit: 500 });
  const { fleet } = useStatus();
  if (problem) return <Trouble problem={problem} retry={reload} />;
  if (!data) return loading ? <Loading what="the reads" /> : null;
  const pairs = data.rows as unknown as Pair[];
  if (pairs.length === 0) return <Empty title="No reads yet">They come from the logs of the regional caches with each inventory.</Empty>;
  const regions = [...new Set([...fleet.regions, ...pairs.flatMap((pair) => [pair.reader_region, pair.layer_region])])];
  const points = pairs
    .filter((pair) => pair[metric] !== null)
    .map((pair) => [regions.indexOf(pair.layer_region), regions.indexOf(pair.reader_region), pair[metric]!]);
  const top = Math.max(...points.map((point) => point[2]!), 0);
  const largest = pairs.reduce((best, pair) => ((pair[metric] ?? 0) > (best[metric] ?? 0) ? pair : best));
  const label = METRICS.find(([key]) => key === metric)![1];
  const option = (colors: Palette, narrow: boolean) => ({
    grid: { left: narrow ? 70 : 80, right: 12, top: 8, bottom: narrow ? 96 : 72 },
    tooltip: {
      formatter: (point: any) => `${regions[point.value[1]]} reads ${regions[point.value[0]]}: ${shown(metric, point.value[2])}`,
    },
    xAxis: { ...axis(colors), type: "category", data: regions, name: "layers live in", nameLocation: "middle", nameGap: narrow ? 58 : 26, splitArea: { show: false }, axisLabel: { color: colors.muted, rotate: narrow ? 50 : 0, interval: 0 } },
    yAxis: { ...axis(colors), type: "category", data: regions, inverse: true, axisLabel: { color: colors.muted, interval: 0 } },
    visualMap: {
      min: 0,
      max: top || 1,
      calculable: false,
      orient: "horizontal",
      left: "center",
      bottom: 0,
      itemHeight: 90,
      itemWidth: 10,
      text: [shown(metric, top), "0"],
      textStyle: { color: colors.muted },
      inRange: { color: colors.ramp },
    },
    series: [{ type: "heatmap", data: points, itemStyle: { borderColor: colors.panel, borderWidth: 1 } }],
  });
  return (
    <Chart
      title="Reads by pair of regions"
      summary={`${label}: rows read, columns hold the layers. Largest: ${largest.reader_region} reads ${largest.layer_region}, ${shown(metric, largest[metric] ?? 0)}.`}
      height={330}
      version={`${metric}-${JSON.stringify(points)}`}
      option={option}
      controls={<Segments label="What the map shows" value={metric} options={METRICS} change={setMetric} />}
      figures={{
        columns: ["Reader region", "Layer region", ...METRICS.map(([, name]) => name)],
        rows: pairs.map((pair) => [pair.reader_region, pair.layer_region, ...METRICS.map(([key]) => (pair[key] === null ? "–" : shown(key, pair[key]!)))]),
      }}
    />
  );
}
