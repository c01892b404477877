export function DiskView({ disk }: { disk: string }) {
  return <p>{disk}</p>;
}
