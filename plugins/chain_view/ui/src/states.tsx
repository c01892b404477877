// Empty, loading and error states, the same on every page: they say what, and since when.
import type { ReactNode } from "react";
import type { Problem } from "./api";
import { ago, time } from "./format";

export function Loading({ what }: { what: string }) {
  return (
    <div className="cw-state" role="status">
      <span className="cw-spinner" aria-hidden="true" />
      Loading {what}…
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="cw-state cw-empty">
      <strong>{title}</strong>
      {children ? <p className="cw-muted">{children}</p> : null}
    </div>
  );
}

export function Trouble({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div className="cw-state cw-trouble" role="alert">
      <strong>{problem.title}</strong>
      {problem.detail ? <p>{problem.detail}</p> : null}
      {problem.since ? (
        <p className="cw-muted">
          Since <time dateTime={problem.since}>{time(problem.since)}</time> ({ago(problem.since)}).
        </p>
      ) : null}
      {retry ? (
        <button type="button" className="cw-button" onClick={retry}>
          Try again
        </button>
      ) : null}
    </div>
  );
}

/** The page is usable, but on older data than it should be. */
export function Banner({ problem }: { problem: Problem }) {
  return (
    <div className="cw-banner" role="status">
      <strong>{problem.title}.</strong> {problem.detail}{" "}
      {problem.since ? <span>Since {time(problem.since)} ({ago(problem.since)}).</span> : null}
    </div>
  );
}
