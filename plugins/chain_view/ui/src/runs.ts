// Start a run of a DAG with the user's own rights, and follow it.
import { useEffect, useState } from "react";
import { airflow, type Problem } from "./api";
import { problemFrom } from "./hooks";

export interface Run {
  dag_id: string;
  dag_run_id: string;
  state: string;
  start_date: string | null;
  end_date: string | null;
  note: string | null;
}

export interface Task {
  task_id: string;
  map_index: number;
  rendered_map_index: string | null;
  state: string | null;
  note: string | null;
  try_number: number;
}

export interface Followed {
  run: Run | null;
  tasks: Task[];
  paused: boolean;
  problem: Problem | null;
}

const ENDED = new Set(["success", "failed"]);
const PAUSE_MS = 2000;

export function startRun(dag: string, conf: Record<string, unknown>): Promise<Run> {
  return airflow<Run>(`dags/${encodeURIComponent(dag)}/dagRuns`, { logical_date: null, conf });
}

export function ended(run: Run | null): boolean {
  return run !== null && ENDED.has(run.state);
}

/** Polls until the run has ended; `onEnd` once after that. */
export function useRun(start: Run | null, onEnd: (run: Run) => void): Followed {
  const [followed, setFollowed] = useState<Followed>({ run: start, tasks: [], paused: false, problem: null });
  useEffect(() => {
    setFollowed({ run: start, tasks: [], paused: false, problem: null });
    if (!start) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      try {
        const [run, tasks, dag] = await lookUp(start, abort.signal);
        setFollowed({ run, tasks, paused: dag.is_paused, problem: null });
        if (ended(run)) {
          onEnd(run);
          return;
        }
      } catch (error) {
        if (abort.signal.aborted) return;
        setFollowed((old) => ({ ...old, problem: problemFrom(error) }));
      }
      timer = setTimeout(look, PAUSE_MS);
    };
    void look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [start?.dag_run_id]);
  return followed;
}

async function lookUp(start: Run, signal: AbortSignal): Promise<[Run, Task[], { is_paused: boolean }]> {
  const dag = `dags/${encodeURIComponent(start.dag_id)}`;
  const run = `${dag}/dagRuns/${encodeURIComponent(start.dag_run_id)}`;
  const [state, tasks, about] = await Promise.all([
    airflow<Run>(run, undefined, signal),
    airflow<{ task_instances: Task[] }>(`${run}/taskInstances?limit=50`, undefined, signal),
    airflow<{ is_paused: boolean }>(dag, undefined, signal),
  ]);
  return [state, tasks.task_instances, about];
}
