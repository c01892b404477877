// One value as text; disk ids lead to the disk's page, actions to their receipt.
import { Link } from "react-router-dom";
import { cell, shortId, time } from "./format";
import { diskPath, receiptPath } from "./paths";

export function Cell({ column, type, value }: { column: string; type: string; value: unknown }) {
  if (value === null || value === undefined || value === "") return <span className="cw-muted">–</span>;
  if (column === "disk_id") return <Link to={diskPath(String(value))} className="cw-name"><bdi>{String(value)}</bdi></Link>;
  if (column === "action_id") return <Link to={receiptPath(String(value))} className="cw-code">{shortId(String(value))}</Link>;
  if (type.startsWith("TIMESTAMP")) return <time dateTime={String(value)}>{time(String(value))}</time>;
  if (/(^|_)(layer_id|layer|root|tip|backing|etag)$/.test(column) && typeof value === "string") {
    return <bdi className="cw-code" title={value}>{shortId(value)}</bdi>;
  }
  const text = cell(column, value);
  if (typeof value === "number") return <span title={`${value}`}>{text}</span>;
  return <bdi className="cw-name">{text}</bdi>;
}
