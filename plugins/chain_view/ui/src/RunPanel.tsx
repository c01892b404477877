// A followed run: its state, its tasks, and the way to Airflow's own page of it.
import { Link } from "react-router-dom";
import { ended, type Followed } from "./runs";
import { Trouble } from "./states";

export function RunPanel({ title, followed }: { title: string; followed: Followed }) {
  const { run, tasks, paused, problem } = followed;
  if (!run) return problem ? <Trouble problem={problem} /> : null;
  const page = `/dags/${encodeURIComponent(run.dag_id)}/runs/${encodeURIComponent(run.dag_run_id)}`;
  const done = ended(run);
  return (
    <div className="cw-state" role="status" aria-live="polite" data-testid="run" data-state={run.state}>
      <div>
        {done ? null : <span className="cw-spinner" aria-hidden="true" style={{ display: "inline-block", marginRight: 8 }} />}
        <strong>{title}</strong> <Badge state={run.state} />{" "}
        <Link to={page}>Open the run in Airflow</Link>
      </div>
      {paused && !done ? <p>The DAG {run.dag_id} is paused: the run waits until somebody turns it on.</p> : null}
      {run.note ? <p>{run.note}</p> : null}
      {problem ? <p className="cw-muted">{problem.title}. {problem.detail}</p> : null}
      {tasks.length > 0 ? (
        <ul className="cw-steps">
          {tasks.map((task) => (
            <li key={`${task.task_id}/${task.map_index}`}>
              {task.task_id}
              {task.rendered_map_index ? <> [<bdi>{task.rendered_map_index}</bdi>]</> : null} <Badge state={task.state ?? "waiting"} />
              {task.try_number > 1 ? ` try ${task.try_number}` : ""}
              {task.note ? <span className="cw-muted"> {task.note}</span> : null}
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}

export function Badge({ state }: { state: string }) {
  const good = ["success", "published", "ok", "idle"].includes(state);
  const bad = ["failed", "upstream_failed", "refused", "lost", "dangling", "missing"].includes(state);
  return <span className={`cw-badge ${good ? "cw-good" : bad ? "cw-bad" : ""}`}>{state.replaceAll("_", " ")}</span>;
}
