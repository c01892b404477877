// What maintenance brought over time, predicted against actual.
import { useState } from "react";
import { axis, bytesAxis, Chart } from "./Chart";
import type { Page } from "./DataTable";
import { bytes, count, many, seconds } from "./format";
import { useOwn } from "./hooks";
import type { Palette } from "./palette";
import { Segments } from "./Segments";
import { Empty, Loading, Trouble } from "./states";

interface Day {
  day: string;
  actions: number;
  layers_removed: number;
  freed_actions: number;
  waiting_freed_bytes: number;
  predicted_freed_bytes: number;
  actual_freed_bytes: number;
  predicted_moved_bytes: number;
  actual_moved_bytes: number;
  predicted_seconds: number;
  actual_seconds: number;
}

type Metric = "freed_bytes" | "moved_bytes" | "seconds";

const METRICS: readonly (readonly [Metric, string])[] = [
  ["freed_bytes", "Freed"],
  ["moved_bytes", "Moved"],
  ["seconds", "Time"],
];

export function SavingsChart() {
  const [metric, setMetric] = useState<Metric>("freed_bytes");
  const { data, problem, loading, reload } = useOwn<Page>("query/savings_by_day", { limit: 500 });
  if (problem) return <Trouble problem={problem} retry={reload} />;
  if (!data) return loading ? <Loading what="the savings" /> : null;
  const days = data.rows as unknown as Day[];
  if (days.length === 0) return <Empty title="Nothing merged yet">Savings appear here after the first published action.</Empty>;
  const show = (value: number) => (metric === "seconds" ? seconds(value) : bytes(value));
  const predicted = running(days.map((day) => day[`predicted_${metric}`] ?? 0));
  const actual = running(days.map((day) => day[`actual_${metric}`] ?? 0));
  const removed = total(days, "layers_removed");
  const waiting = total(days, "waiting_freed_bytes");
  const waits = total(days, "actions") - total(days, "freed_actions");
  const later =
    metric === "freed_bytes" && waits > 0
      ? ` Of the prediction ${show(waiting)} (${many(waits, "action")}) ${waits === 1 ? "waits" : "wait"}: the layers that were replaced are kept until layer_retire deletes them.`
      : "";
  const option = (colors: Palette) => ({
    grid: { left: 74, right: 16, top: 28, bottom: 30 },
    legend: { top: 0, textStyle: { color: colors.text } },
    tooltip: { trigger: "axis", valueFormatter: show },
    xAxis: { ...axis(colors), type: "category", data: days.map((day) => day.day.slice(0, 10)), axisLabel: { color: colors.muted, hideOverlap: true } },
    yAxis:
      metric === "seconds"
        ? { ...axis(colors), type: "value", axisLabel: { color: colors.muted, formatter: show } }
        : bytesAxis(colors, Math.max(actual.at(-1)!, predicted.at(-1)!)),
    series: [
      { name: "actual", type: "line", step: "end", symbolSize: 6, lineStyle: { width: 2 }, itemStyle: { color: colors.accent }, data: actual },
      { name: "predicted", type: "line", step: "end", symbol: "diamond", symbolSize: 6, lineStyle: { width: 2, type: "dashed" }, itemStyle: { color: colors.second }, data: predicted },
    ],
  });
  return (
    <Chart
      title="Savings over time"
      summary={`${many(removed, "layer")} removed so far; ${METRICS.find(([key]) => key === metric)![1].toLowerCase()}: ${show(actual.at(-1)!)}, predicted ${show(predicted.at(-1)!)}.${later}`}
      height={260}
      version={`${metric}-${JSON.stringify(days)}`}
      option={option}
      controls={<Segments label="What the chart shows" value={metric} options={METRICS} change={setMetric} />}
      figures={{
        columns: ["Day (UTC)", "Actions", "Layers removed", "Predicted", "Actual"],
        rows: days.map((day) => [day.day.slice(0, 10), count(day.actions), count(day.layers_removed), show(day[`predicted_${metric}`] ?? 0), show(day[`actual_${metric}`] ?? 0)]),
      }}
    />
  );
}

function total(days: Day[], column: "actions" | "layers_removed" | "freed_actions" | "waiting_freed_bytes"): number {
  return days.reduce((sum, day) => sum + day[column], 0);
}

function running(values: number[]): number[] {
  let sum = 0;
  return values.map((value) => (sum += value));
}
