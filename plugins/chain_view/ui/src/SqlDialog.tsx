// The SQL behind a table, as the file in the repository has it.
import { useEffect, useRef } from "react";
import { useOwn } from "./hooks";
import { Loading, Trouble } from "./states";

interface Sql {
  name: string;
  file: string;
  sql: string;
  command: string;
  parameters: Record<string, unknown>;
}

export function SqlDialog({ query, params, close }: { query: string; params: Record<string, unknown>; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const { data, problem, loading } = useOwn<Sql>(`sql/${query}`, params);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} className="cw-dialog" aria-label={`SQL of ${query}`} onClose={close}>
      <div className="cw-tools">
        <h3>{data ? data.file : query}</h3>
        <span className="cw-grow" />
        <button type="button" className="cw-button" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </div>
      {problem ? <Trouble problem={problem} /> : null}
      {loading && !data ? <Loading what="the query" /> : null}
      {data ? (
        <>
          <p className="cw-muted">
            Runs on the command line as <code>{data.command}</code>.
          </p>
          {Object.keys(data.parameters).length > 0 ? (
            <p className="cw-muted">
              Bound parameters: <code>{JSON.stringify(data.parameters)}</code>
            </p>
          ) : null}
          <pre tabIndex={0}>{data.sql}</pre>
        </>
      ) : null}
    </dialog>
  );
}
