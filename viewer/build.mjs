// Bundles the page into the folder that the API serves it from: node build.mjs <folder>
import { build } from "esbuild";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const folder = process.argv[2];
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
await build({
  entryPoints: { viewer: "src/main.ts", style: "src/style.css" },
  outdir: folder,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
});
await copyFile("src/index.html", join(folder, "index.html"));
await copyFile("src/icon.svg", join(folder, "icon.svg"));
await copyFile("node_modules/maplibre-gl/dist/maplibre-gl-worker.mjs", join(folder, "worker.js"));
await writeFile(join(folder, "licences.txt"), await licences());
// Browsers take a third of the bytes this way, also without a proxy that compresses.
for (const name of await readdir(folder)) {
  const text = await readFile(join(folder, name));
  await writeFile(join(folder, `${name}.gz`), await promisify(gzip)(text, { level: 9 }));
}

/** What the licences of the bundled packages want to be passed on with them. */
async function licences() {
  const lock = JSON.parse(await readFile("package-lock.json", "utf8"));
  const texts = [];
  for (const [path, { dev, version }] of Object.entries(lock.packages)) {
    if (!path || dev) continue;
    const names = (await readdir(path)).filter((name) => /^licen[cs]e/i.test(name));
    const found = await Promise.all(names.map((name) => readFile(join(path, name), "utf8")));
    texts.push(`${path.slice("node_modules/".length)} ${version}\n\n${found.join("\n")}`);
  }
  return texts.join(`\n${"-".repeat(80)}\n`);
}
