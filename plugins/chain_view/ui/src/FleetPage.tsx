// The whole fleet at a glance.
import { DataTable, type Page } from "./DataTable";
import { Tile } from "./DiskView";
import { bytes, count, many, share, usd } from "./format";
import { useOwn } from "./hooks";
import { HitRates } from "./HitRates";
import { LengthHistogram } from "./LengthHistogram";
import { SavingsChart } from "./SavingsChart";
import { Loading, Trouble } from "./states";
import { useStatus } from "./status";
import { TrafficMap } from "./TrafficMap";

export function FleetPage() {
  return (
    <section aria-label="Fleet">
      <Totals />
      <div className="cw-grid">
        <LengthHistogram />
        <TrafficMap />
        <HitRates />
        <SavingsChart />
      </div>
      <Soon />
    </section>
  );
}

function Totals() {
  const { data, problem, loading, reload } = useOwn<Page>("query/fleet_totals", { limit: 1 });
  const { fleet } = useStatus();
  if (problem) return <Trouble problem={problem} retry={reload} />;
  if (!data) return loading ? <Loading what="the totals" /> : null;
  const row = (data.rows[0] ?? {}) as Record<string, number>;
  const part = row.size_bytes ? row.shadowed_stored_bytes! / row.size_bytes : 0;
  return (
    <dl className="cw-tiles" data-testid="totals">
      <Tile name="Disks" value={count(row.disks ?? 0)} note={`${count(row.running ?? 0)} running, ${many(row.snapshots ?? 0, "snapshot")}`} />
      <Tile name="Layers" value={count(row.layers ?? 0)} note={`in ${many(fleet.regions.length, "region")}`} />
      <Tile name="Stored" value={bytes(row.size_bytes ?? 0)} note={`${usd(row.storage_usd ?? 0)} a month`} />
      <Tile name="Shadowed" value={bytes(row.shadowed_stored_bytes ?? 0)} note={`${share(part)} of what is stored`} />
      <Tile name="Orphan layers" value={count(row.orphan_layers ?? 0)} note="in no head's chain" />
      <Tile name="Refused or missing" value={count((row.refused_layers ?? 0) + (row.missing_layers ?? 0))} note={`${many(row.broken_heads ?? 0, "broken head")}`} />
    </dl>
  );
}

function Soon() {
  const { fleet } = useStatus();
  return (
    <>
      <h2>Disks that reach {fleet.max_chain_length} layers within 7 days</h2>
      <DataTable
        query="growth_forecast"
        caption="Disks that reach the limit soon"
        params={{ within_days: 7 }}
        limit={10}
        empty="No disk reaches the limit within 7 days"
      />
    </>
  );
}
