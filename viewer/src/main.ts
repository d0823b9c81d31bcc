// The page: login, choice of a collection, search, map and panel. Its address says what it shows.
import { Api, Problem } from "./api";
import { find, make } from "./dom";
import { Legend } from "./legend";
import { type Bounds, ParcelMap, type TileJson } from "./map";
import { type Parcel, Panel } from "./panel";
import { texts } from "./texts";

interface Collection {
  id: string;
  title: string;
  extent?: { spatial?: { bbox?: number[][] } };
}

const collections = find<HTMLSelectElement>("#collection");
const search = find<HTMLInputElement>("#pid");
const login = find<HTMLDialogElement>("#login");
const status = find<HTMLElement>("#status");

// The map writes into the address as soon as it is there.
let placed = place().has("map");
// The page lies at /viewer/, the API beside it, also behind a proxy that puts a path before both.
const api = new Api(new URL("..", document.baseURI).href, askForLogin);
const panel = new Panel(find("#panel"), api, () => void select(""));
const map = makeMap();
let known = new Map<string, Collection>();

function start(): void {
  document.documentElement.lang = texts.language;
  document.title = texts.title;
  for (const element of document.querySelectorAll<HTMLElement>("[data-text]"))
    element.textContent = String(texts[element.dataset["text"] as keyof typeof texts]);
  for (const element of document.querySelectorAll<HTMLElement>("[data-label]"))
    element.ariaLabel = String(texts[element.dataset["label"] as keyof typeof texts]);
  collections.addEventListener("change", () => attempt(open(collections.value, "", true)));
  find("#search").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(select(search.value.trim()));
  });
  find("#logout").addEventListener("click", () => location.reload());
  find("#login form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(logIn());
  });
  login.addEventListener("cancel", (event) => event.preventDefault());
  addEventListener("hashchange", () => attempt(follow()));
  login.showModal();
}

function askForLogin(problem: Problem): void {
  api.logOut();
  find("#refusal").textContent = problem.message;
  if (!login.open) login.showModal();
}

async function logIn(): Promise<void> {
  const [user, password, token] = ["#user", "#password", "#token"].map((id) => find<HTMLInputElement>(id));
  if (token?.value) api.logInByToken(token.value.trim());
  else api.logInByPassword(user?.value ?? "", password?.value ?? "");
  find("#refusal").textContent = "";
  try {
    const answer = await api.json<{ collections: Collection[] }>("v1/collections");
    known = new Map(answer.collections.map((one) => [one.id, one]));
  } catch (problem) {
    find("#refusal").textContent = (problem as Error).message;
    return;
  }
  find<HTMLFormElement>("#login form").reset();
  shown = { collection: "", pid: "" };
  login.close();
  collections.replaceChildren(...[...known.values()].map(({ id, title }) => make("option", { value: id }, title)));
  say(known.size ? "" : texts.noCollections);
  await follow();
}

/** Shows what the page's address says, or the first collection. */
async function follow(): Promise<void> {
  if (!known.size) return;
  const named = place();
  const id = named.get("collection") ?? "";
  const first = known.keys().next().value ?? "";
  await open(known.has(id) ? id : first, known.has(id) ? (named.get("parcel") ?? "") : "", !placed);
  placed = false;
}

let shown = { collection: "", pid: "" };
/** What there is to say of the dataset as a whole. */
let notice = "";

async function open(id: string, pid: string, move: boolean): Promise<void> {
  if (id !== shown.collection) {
    shown = { collection: id, pid: "" };
    collections.value = id;
    await showMap(id, move);
  }
  if (pid !== shown.pid || !pid) await select(pid);
}

async function showMap(id: string, move: boolean): Promise<void> {
  if (!map) return;
  const address = `v1/collections/${encodeURIComponent(id)}/tiles/WebMercatorQuad`;
  const [tiles] = await Promise.all([api.json<TileJson>(address), map.ready]);
  const extent = known.get(id)?.extent?.spatial?.bbox?.[0] as Bounds | undefined;
  map.show(address, tiles);
  notice = tiles.bounds ? "" : texts.noParcels;
  const bounds = extent ?? tiles.bounds;
  if (move && bounds) map.goTo(bounds, false);
}

let selecting = new AbortController();

/** Shows a parcel of the collection, or none (""). */
async function select(pid: string): Promise<void> {
  const { collection } = shown;
  if (!pid) panel.close();
  const root = `v1/collections/${encodeURIComponent(collection)}`;
  const address = `${root}/items/${encodeURIComponent(pid)}`;
  selecting.abort();
  selecting = new AbortController();
  const { signal } = selecting;
  const parcel = pid ? await api.jsonIfThere<Parcel>(address, {}, signal) : null;
  signal.throwIfAborted();
  if (pid && !parcel) return say(texts.noParcel(pid));
  say(notice);
  shown = { collection, pid };
  search.value = pid;
  goTo({ collection, parcel: pid });
  map?.select(pid);
  if (!parcel) return;
  const filled = panel.show(root, address, pid, parcel);
  map?.goTo(boundsOf(parcel));
  await filled;
}

function boundsOf(parcel: Parcel): Bounds {
  const numbers = [parcel.geometry.coordinates].flat(Infinity) as number[];
  const [lons, lats] = [numbers.filter((_, i) => i % 2 === 0), numbers.filter((_, i) => i % 2 === 1)];
  // Not by spreading into arguments: a parcel may have many corners.
  const least = (values: number[]) => values.reduce((a, b) => Math.min(a, b));
  const most = (values: number[]) => values.reduce((a, b) => Math.max(a, b));
  return [least(lons), least(lats), most(lons), most(lats)];
}

/** What the address says after #; the map keeps its own part of it. */
function place(): URLSearchParams {
  return new URLSearchParams(location.hash.slice(1));
}

function goTo(parts: Record<string, string>): void {
  const named = place();
  for (const [name, value] of Object.entries(parts))
    if (value) named.set(name, value);
    else named.delete(name);
  // The map's own part has slashes.
  history.replaceState(null, "", `#${named.toString().replaceAll("%2F", "/")}`);
}

function makeMap(): ParcelMap | null {
  const legend = new Legend(find("#legend"));
  try {
    const made = new ParcelMap(find("#map"), api, (pid) => attempt(select(pid)), (crops, cells) =>
      legend.show(crops, cells, made),
    );
    return made;
  } catch {
    find("#map").replaceChildren(make("p", { class: "hint" }, texts.noMap));
    return null;
  }
}

function say(text: string): void {
  status.textContent = text;
}

function attempt(work: Promise<void>): void {
  work.catch((problem: unknown) => {
    if (!(problem instanceof DOMException)) say((problem as Error).message);
  });
}

start();
