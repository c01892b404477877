// One disk.
import { useSearchParams } from "react-router-dom";
import { DiskSearch } from "./DiskSearch";
import { DiskView } from "./DiskView";
import { Empty } from "./states";

export function DiskPage() {
  const [search] = useSearchParams();
  const disk = search.get("disk") ?? "";
  return (
    <section aria-label="Disk">
      <DiskSearch key={disk} chosen={disk} />
      {disk ? <DiskView key={disk} disk={disk} /> : <Empty title="Pick a disk">Type a part of its name; the longest chains are suggested first.</Empty>}
    </section>
  );
}
