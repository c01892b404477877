// Bundles src/ into ../static. React and the router are Airflow's own (see src/shims); the chart library is a chunk of
// its own that a page loads when it first draws a chart. build.json has the sums of what was read and written: a test
// compares them with what is committed.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
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

const sum = (body) => createHash("sha256").update(body).digest("hex");
const sums = async (folder, names) => Object.fromEntries(await Promise.all(names.sort().map(async (name) => [name, sum(await readFile(`${folder}/${name}`))])));
const sources = (await readdir(here("src"), { recursive: true })).filter((name) => /\.\w+$/.test(name)).map((name) => `src/${name}`);
const built = (await readdir(out)).filter((name) => /\.js(\.LEGAL\.txt)?$/.test(name));
const record = {
  sources: await sums(here("."), [...sources, "build.mjs", "package.json", "package-lock.json", "tsconfig.json"]),
  built: await sums(out, built),
};
await writeFile(`${out}/build.json`, `${JSON.stringify(record, null, 1)}\n`);
