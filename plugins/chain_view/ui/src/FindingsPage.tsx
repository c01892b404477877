// Every finding as a table.
import { useSearchParams } from "react-router-dom";
import { DataTable } from "./DataTable";
import { useOwn } from "./hooks";
import { Empty, Loading, Trouble } from "./states";

interface Listed {
  name: string;
  area: string;
  title: string;
  grain: string;
  parameters: { name: string; type: string; default: string | null; text: string }[];
}

// In the order in which an operator asks; what is not named here follows by name.
const FIRST = ["chain_length", "shadowed_data", "merge_candidates", "cross_region_hotspots", "growth_forecast", "orphans", "broken_chains", "size_anomalies"];
const NAMES: Record<string, string> = {
  chain_length: "Long chains",
  shadowed_data: "Shadowed data",
  merge_candidates: "Merge candidates",
  cross_region_hotspots: "Cross-region hotspots",
  growth_forecast: "Growth",
  orphans: "Orphans",
  broken_chains: "Broken chains",
  size_anomalies: "Size anomalies",
};

export function FindingsPage() {
  const [search, setSearch] = useSearchParams();
  const { data, problem, loading, reload } = useOwn<Listed[]>("queries");
  if (problem) return <Trouble problem={problem} retry={reload} />;
  if (!data) return loading ? <Loading what="the findings" /> : null;
  const whole = data.filter((query) => query.parameters.every((parameter) => parameter.default !== null || KNOWN.has(parameter.name)));
  if (whole.length === 0) return <Empty title="No findings are installed">The folder sql/ holds no query.</Empty>;
  const listed = ordered(whole);
  const chosen = listed.find((query) => query.name === search.get("finding")) ?? listed[0]!;
  return (
    <section aria-label="Findings">
      <div className="cw-tools">
        <label className="cw-field">
          <span>Finding</span>
          <select value={chosen.name} onChange={(event: any) => setSearch({ finding: event.target.value })}>
            {listed.map((query) => (
              <option key={query.name} value={query.name}>
                {label(query.name)}
              </option>
            ))}
          </select>
        </label>
      </div>
      <h2>{label(chosen.name)}</h2>
      <p className="cw-muted">
        {chosen.title} {chosen.grain ? `${chosen.grain.charAt(0).toUpperCase()}${chosen.grain.slice(1)}.` : ""}
      </p>
      <DataTable key={chosen.name} query={chosen.name} caption={label(chosen.name)} empty="Nothing found" />
    </section>
  );
}

// Parameters that the server fills in from the fleet's file and the snapshot.
const KNOWN = new Set(["prices", "storage_prices", "max_chain_length", "keep_layers", "now"]);

function label(name: string): string {
  const plain = name.replaceAll("_", " ");
  return NAMES[name] ?? plain.charAt(0).toUpperCase() + plain.slice(1);
}

function ordered(queries: Listed[]): Listed[] {
  const place = (query: Listed) => {
    const index = FIRST.indexOf(query.name);
    return index < 0 ? FIRST.length : index;
  };
  return [...queries].sort((a, b) => place(a) - place(b) || a.name.localeCompare(b.name));
}
