// Loading with states, Airflow's theme, and ticking.
import { createContext, useCallback, useContext, useEffect, useState } from "react";
import { ApiError, own, type Problem } from "./api";

export interface Loaded<T> {
  data: T | null;
  problem: Problem | null;
  loading: boolean;
  reload: () => void;
}

/** The snapshot in view: when it changes, whatever is on the page is asked for again. */
export const SnapshotContext = createContext<string>("");

/** GET one of our endpoints; the last good data stays visible while it is loaded again. */
export function useOwn<T>(path: string | null, query: Record<string, unknown> = {}): Loaded<T> {
  const key = path === null ? null : `${path}?${JSON.stringify(query)}`;
  const snapshot = useContext(SnapshotContext);
  const [turn, setTurn] = useState(0);
  const [state, setState] = useState<{ key: string | null; data: T | null; problem: Problem | null; loading: boolean }>({
    key: null,
    data: null,
    problem: null,
    loading: true,
  });
  useEffect(() => {
    if (path === null) {
      setState({ key: null, data: null, problem: null, loading: false });
      return;
    }
    const abort = new AbortController();
    setState((old) => ({ ...old, key, loading: true, data: samePath(old.key, key) ? old.data : null }));
    own<T>(path, query, abort.signal)
      .then((data) => setState({ key, data, problem: null, loading: false }))
      .catch((error: unknown) => {
        if (abort.signal.aborted) return;
        setState({ key, data: null, problem: problemFrom(error), loading: false });
      });
    return () => abort.abort();
  }, [key, turn, snapshot]);
  const reload = useCallback(() => setTurn((value) => value + 1), []);
  return { data: state.data, problem: state.problem, loading: state.loading, reload };
}

export function problemFrom(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  return { code: "client", title: "The page failed", detail: String(error), since: null };
}

function samePath(left: string | null, right: string | null): boolean {
  return left !== null && right !== null && left.split("?")[0] === right.split("?")[0];
}

/** Airflow puts the class `dark` on the root element. */
export function useDark(): boolean {
  const [dark, setDark] = useState(isDark());
  useEffect(() => {
    const watcher = new MutationObserver(() => setDark(isDark()));
    watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme"] });
    return () => watcher.disconnect();
  }, []);
  return dark;
}

function isDark(): boolean {
  return document.documentElement.classList.contains("dark");
}

/** The value, once it has stopped changing for a moment: no request per key stroke. */
export function useSettled<T>(value: T, delay = 250): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), delay);
    return () => clearTimeout(timer);
  }, [value, delay]);
  return settled;
}
