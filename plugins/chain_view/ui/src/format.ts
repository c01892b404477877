// Numbers and times as people read them. Everything returns plain text: React escapes it.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(value: number): string {
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 1023.5 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || size >= 100 ? 0 : 1;
  return `${value < 0 ? "−" : ""}${size.toFixed(digits)} ${UNITS[unit]}`;
}

export function count(value: number): string {
  return new Intl.NumberFormat("en").format(value);
}

/** `1 layer`, `1,005 layers`. */
export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

export function usd(value: number): string {
  const digits = value !== 0 && Math.abs(value) < 1 ? 4 : 2;
  return new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumFractionDigits: digits }).format(value);
}

export function share(value: number): string {
  return `${(100 * value).toFixed(value !== 0 && Math.abs(value) < 0.1 ? 1 : 0)} %`;
}

export function seconds(value: number): string {
  if (value < 0) return `−${seconds(-value)}`;
  if (value === 0) return "0 s";
  if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 1) return `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
  if (value < 59.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  return whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : span(value);
}

/** A length of time in its two largest units: `3 d 4 h`. */
export function span(value: number): string {
  if (value < 59.5) return `${Math.max(0, Math.round(value))} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.round(value / 3600);
  const days = Math.floor(hours / 24);
  return days < 60 ? `${days} d ${hours % 24} h` : `${days} d`;
}

export function ago(iso: string, now: number = Date.now()): string {
  const then = Date.parse(iso);
  if (Number.isNaN(then)) return iso;
  return `${span((now - then) / 1000)} ago`;
}

export function time(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  return date.toISOString().replace("T", " ").replace(/\.\d+Z$/, "Z");
}

export function shortId(id: string): string {
  return /^[0-9a-f]{32}$/.test(id) ? `${id.slice(0, 8)}…` : id;
}

/** `first_read_seconds` becomes `First read time`, `read_bytes` becomes `Read`: the cell has the unit. */
export function title(column: string): string {
  const named = column.replace(/_(seconds|ms|us)$/, "_time").replace(/_(bytes|usd|at)$/, "");
  const words = named.replaceAll("_", " ").replace(/\bid\b/, "").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A cell by its column's name: the unit is the name's ending. */
export function cell(column: string, value: unknown): string {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map((item) => cell(column, item)).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return numberCell(column, value);
  if (/_at$/.test(column)) return time(String(value));
  return String(value);
}

function numberCell(column: string, value: number): string {
  if (/(^|_)bytes(_|$)|virtual_size/.test(column)) return bytes(value);
  if (/(^|_)usd(_|$)/.test(column)) return usd(value);
  if (/_seconds$/.test(column)) return seconds(value);
  if (/_us$/.test(column)) return seconds(value / 1e6);
  if (/_ms$/.test(column)) return seconds(value / 1e3);
  if (/(^|_)(share|rate|ratio)$/.test(column)) return share(value);
  return Number.isInteger(value) ? count(value) : value.toFixed(2);
}
