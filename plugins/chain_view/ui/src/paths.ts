// Where our pages are under Airflow's router.
export const ROOT = "/plugin/chainwright";

export function diskPath(disk: string): string {
  return `${ROOT}/disk?disk=${encodeURIComponent(disk)}`;
}

export function receiptPath(action: string): string {
  return `${ROOT}/history?action=${encodeURIComponent(action)}`;
}

export function findingPath(name: string): string {
  return `${ROOT}/findings?finding=${encodeURIComponent(name)}`;
}
