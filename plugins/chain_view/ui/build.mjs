// Bundles src/ into ../static. React and the router are Airflow's own (see src/shims); the chart library is a chunk of
// its own that a page loads when it first draws a chart.
import { build } from "esbuild";
import { readdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = here("../static");

for (const name of await readdir(out)) {
  if (/^(chunk|chain_view|charts).*\.js(\.LEGAL\.txt)?$/.test(name)) await rm(`${out}/${name}`);
}
await build({
  entryPoints: { chain_view: here("src/main.tsx") },
  outdir: out,
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "linked",
  chunkNames: "chunk-[hash]",
  jsx: "automatic",
  loader: { ".css": "text" },
  alias: {
    react: here("src/shims/react.ts"),
    "react/jsx-runtime": here("src/shims/jsx-runtime.ts"),
    "react-router-dom": here("src/shims/router.ts"),
  },
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "info",
});
