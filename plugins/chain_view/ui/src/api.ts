// Requests to the plugin's own endpoints and to Airflow's REST API, both with the user's session cookie.

export interface Problem {
  code: string;
  title: string;
  detail: string;
  since: string | null;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem,
  ) {
    super(problem.title);
  }
}

const NETWORK: Problem = {
  code: "network",
  title: "Airflow does not answer",
  detail: "The request did not reach the API server. It is tried again when you reload.",
  since: null,
};

export function ownUrl(path: string, query: Record<string, unknown> = {}): URL {
  const url = new URL(`chainview/api/${path}`, document.baseURI);
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(key, String(value));
  }
  return url;
}

async function parse(response: Response): Promise<any> {
  const text = await response.text();
  let body: any = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = null;
  }
  if (response.ok) return body;
  throw new ApiError(response.status, problemOf(response.status, body));
}

function problemOf(status: number, body: any): Problem {
  if (body?.problem) return body.problem as Problem;
  if (status === 401) {
    return { code: "session", title: "Your session has ended", detail: "Reload the page to log in again.", since: null };
  }
  if (status === 403) {
    return { code: "forbidden", title: "Not allowed", detail: "Your role in Airflow does not permit this.", since: null };
  }
  const detail = typeof body?.detail === "string" ? body.detail : JSON.stringify(body?.detail ?? body ?? "");
  return { code: `http_${status}`, title: `The server answered ${status}`, detail, since: null };
}

async function send(url: URL, init: RequestInit): Promise<any> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" }, ...init });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiError(0, NETWORK);
  }
  return parse(response);
}

export function own<T>(path: string, query: Record<string, unknown> = {}, signal?: AbortSignal, method = "GET"): Promise<T> {
  return send(ownUrl(path, query), { signal, method });
}

export function airflow<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const url = new URL(`api/v2/${path}`, document.baseURI);
  if (body === undefined) return send(url, { signal });
  return send(url, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
}
