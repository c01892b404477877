// What each regional cache answers by itself.
import { axis, Chart } from "./Chart";
import type { Page } from "./DataTable";
import { bytes, count, share } from "./format";
import { useOwn } from "./hooks";
import type { Palette } from "./palette";
import { Empty, Loading, Trouble } from "./states";

interface Rate {
  reader_region: string;
  requests: number;
  hit_share: number | null;
  bytes: number;
  upstream_bytes: number;
}

export function HitRates() {
  const { data, problem, loading, reload } = useOwn<Page>("query/cache_hit_rate", { limit: 100 });
  if (problem) return <Trouble problem={problem} retry={reload} />;
  if (!data) return loading ? <Loading what="the hit rates" /> : null;
  const rates = data.rows as unknown as Rate[];
  if (rates.length === 0) return <Empty title="No cache has been read yet">Hit rates come from the logs of the regional caches.</Empty>;
  const asked = rates.filter((rate) => rate.hit_share !== null);
  const worst = asked.length > 0 ? asked.reduce((low, rate) => (rate.hit_share! < low.hit_share! ? rate : low)) : null;
  const option = (colors: Palette, narrow: boolean) => ({
    grid: { left: 80, right: 56, top: 8, bottom: 28 },
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, valueFormatter: asShare },
    xAxis: { ...axis(colors), type: "value", min: 0, max: 1, interval: narrow ? 0.5 : 0.2, axisLabel: { color: colors.muted, formatter: (value: number) => share(value) } },
    yAxis: { ...axis(colors), type: "category", inverse: true, data: rates.map((rate) => rate.reader_region) },
    series: [
      {
        name: "hits",
        type: "bar",
        itemStyle: { color: colors.accent },
        label: { show: true, position: "right", color: colors.text, formatter: (point: any) => asShare(point.value) },
        data: rates.map((rate) => rate.hit_share),
      },
    ],
  });
  return (
    <Chart
      title="Hit rate of the regional caches"
      summary={worst ? `Lowest: ${worst.reader_region}, ${share(worst.hit_share!)} of its requests.` : "Nothing was read through a cache."}
      height={Math.max(140, 44 * rates.length + 40)}
      version={JSON.stringify(rates)}
      option={option}
      figures={{
        columns: ["Region", "Requests", "Hits", "Sent to readers", "Fetched"],
        rows: rates.map((rate) => [rate.reader_region, count(rate.requests), asShare(rate.hit_share), bytes(rate.bytes), bytes(rate.upstream_bytes)]),
      }}
    />
  );
}

/** A cache through which nothing was read has no rate; 0 % would be one that answers nothing by itself. */
function asShare(value: number | null | undefined): string {
  return value === null || value === undefined ? "not used" : share(value);
}
