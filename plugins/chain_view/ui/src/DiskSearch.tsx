// Pick a disk: a search field with the server's suggestions, usable by keyboard alone.
import { useId, useState } from "react";
import { useNavigate } from "react-router-dom";
import type { Page } from "./DataTable";
import { useOwn, useSettled } from "./hooks";
import { diskPath } from "./paths";

const MAX_FILTER = 200; // as the server has it

export function DiskSearch({ chosen }: { chosen: string }) {
  const [text, setText] = useState(chosen);
  const list = useId();
  const navigate = useNavigate();
  const settled = useSettled(text);
  const { data } = useOwn<Page>("query/chain_length", { filter: settled.slice(0, MAX_FILTER), limit: 20 });
  const names = data ? data.rows.map((row) => String(row.disk_id)) : [];
  const go = (name: string) => {
    if (name) navigate(diskPath(name));
  };
  const change = (name: string) => {
    setText(name);
    if (names.includes(name)) go(name);
  };
  return (
    <form
      className="cw-tools"
      role="search"
      onSubmit={(event: { preventDefault: () => void }) => {
        event.preventDefault();
        go(text.trim());
      }}
    >
      <label className="cw-field">
        <span>Disk</span>
        <input type="search" list={list} value={text} maxLength={1100} autoComplete="off" onChange={(event) => change(event.target.value)} />
      </label>
      <datalist id={list}>
        {names.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <button type="submit" className="cw-button">
        Show
      </button>
    </form>
  );
}
