// A table over one named query: sorted, filtered and paged on the server; downloads; its SQL one click away.
import { useEffect, useState } from "react";
import { ownUrl } from "./api";
import { Cell } from "./Cell";
import { count, title } from "./format";
import { useOwn, useSettled } from "./hooks";
import { SqlDialog } from "./SqlDialog";
import { Empty, Loading, Trouble } from "./states";

export interface Column {
  name: string;
  type: string;
  numeric: boolean;
}

export interface Page {
  columns: Column[];
  rows: Record<string, unknown>[];
  total: number;
  offset: number;
  limit: number;
}

interface Props {
  query: string;
  caption: string;
  params?: Record<string, unknown>;
  columns?: string[];
  sort?: string;
  desc?: boolean;
  limit?: number;
  filterable?: boolean;
  empty: string;
}

export function DataTable(props: Props) {
  const { query, caption, params = {}, empty, limit = 25, filterable = true } = props;
  const [offset, setOffset] = useState(0);
  const [sort, setSort] = useState<{ column: string; desc: boolean } | null>(
    props.sort ? { column: props.sort, desc: props.desc ?? false } : null,
  );
  const [filter, setFilter] = useState("");
  const [sqlOpen, setSqlOpen] = useState(false);
  const settled = useSettled(filter);
  useEffect(() => setOffset(0), [settled, JSON.stringify(params)]);
  const request = { ...params, filter: settled, sort: sort?.column, desc: sort?.desc || undefined };
  const { data, problem, loading, reload } = useOwn<Page>(`query/${query}`, { ...request, offset, limit });
  const order = (column: string) => {
    setOffset(0);
    setSort((old) => (old?.column === column ? { column, desc: !old.desc } : { column, desc: true }));
  };
  const shown = data ? data.columns.filter((column) => !props.columns || props.columns.includes(column.name)) : [];
  const ordered = props.columns ? [...shown].sort((a, b) => props.columns!.indexOf(a.name) - props.columns!.indexOf(b.name)) : shown;
  return (
    <div className="cw-data" aria-busy={loading}>
      <div className="cw-tools">
        {filterable ? (
          <label className="cw-field">
            <span>Filter</span>
            <input type="search" value={filter} maxLength={200} onChange={(event) => setFilter(event.target.value)} />
          </label>
        ) : null}
        <span className="cw-grow" />
        <a className="cw-button" href={ownUrl(`download/${query}`, { ...request, format: "csv" }).href} download>
          CSV
        </a>
        <a className="cw-button" href={ownUrl(`download/${query}`, { ...request, format: "parquet" }).href} download>
          Parquet
        </a>
        <button type="button" className="cw-button" aria-haspopup="dialog" onClick={() => setSqlOpen(true)}>
          SQL
        </button>
      </div>
      {problem ? <Trouble problem={problem} retry={reload} /> : null}
      {!data && loading ? <Loading what={caption.toLowerCase()} /> : null}
      {data && data.total === 0 ? (
        <Empty title={settled ? `Nothing matches “${settled}”` : empty} />
      ) : null}
      {data && data.total > 0 ? (
        <>
          <div className="cw-scroll" tabIndex={0} role="region" aria-label={caption}>
            <table className="cw-table">
              <caption className="cw-hidden">{caption}</caption>
              <thead>
                <tr>
                  {ordered.map((column) => (
                    <Heading key={column.name} column={column} sort={sort} order={order} />
                  ))}
                </tr>
              </thead>
              <tbody>
                {data.rows.map((row, index) => (
                  <tr key={index}>
                    {ordered.map((column) => (
                      <td key={column.name} className={column.numeric ? "cw-number" : undefined}>
                        <Cell column={column.name} type={column.type} value={row[column.name]} />
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <Pager page={data} limit={limit} go={setOffset} what={caption} />
        </>
      ) : null}
      {sqlOpen ? <SqlDialog query={query} params={params} close={() => setSqlOpen(false)} /> : null}
    </div>
  );
}

function Heading({ column, sort, order }: { column: Column; sort: { column: string; desc: boolean } | null; order: (name: string) => void }) {
  const active = sort?.column === column.name;
  const direction = active ? (sort.desc ? "descending" : "ascending") : "none";
  return (
    <th scope="col" aria-sort={direction} className={column.numeric ? "cw-number" : undefined}>
      <button type="button" onClick={() => order(column.name)} title={column.name}>
        {title(column.name)}
        <span aria-hidden="true">{active ? (sort.desc ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
}

export function Pager({ page, limit, go, what }: { page: { offset: number; total: number }; limit: number; go: (offset: number) => void; what: string }) {
  const last = Math.min(page.offset + limit, page.total);
  return (
    <nav className="cw-pager" aria-label={`Pages of ${what.toLowerCase()}`}>
      <span role="status">
        {count(page.total === 0 ? 0 : page.offset + 1)}–{count(last)} of {count(page.total)}
      </span>
      <button type="button" className="cw-button" disabled={page.offset === 0} onClick={() => go(0)}>
        First
      </button>
      <button type="button" className="cw-button" disabled={page.offset === 0} onClick={() => go(Math.max(0, page.offset - limit))}>
        Previous
      </button>
      <button type="button" className="cw-button" disabled={last >= page.total} onClick={() => go(page.offset + limit)}>
        Next
      </button>
    </nav>
  );
}
