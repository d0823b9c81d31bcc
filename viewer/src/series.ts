// A parcel's series, as the API tells them, as lines of points to draw.
import type { Api } from "./api";
import { texts } from "./texts";

/** A greater share of clouded pixels marks an observation. */
const CLOUDED = 0.1;
const SHOWN_AT_FIRST = ["B02", "B03", "B04", "B08", "B8A", "B11"];
const BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"];

export interface Point {
  time: number;
  value: number;
  clouded: boolean;
  share: number | null;
}

export interface Line {
  name: string;
  /** Names the line's colour and dashes in the style sheet. */
  kind: string;
  shown: boolean;
  points: Point[];
}

export interface Graph {
  title: string;
  digits: number;
  /** The values' axis reaches from the first to the second at least. */
  reach: [number, number];
  lines: Line[];
}

type Column = (string | number | null)[];
interface Answer {
  columns: Record<string, Column>;
}

const CARDS = ["s2", "bs", "c6", "c12"];

/** A product that the collection is extracted with. */
interface Product {
  name: string;
  card: string;
}

/** Chooses the products that stand for the cards: the one named so, else the first. */
export async function productsOf(api: Api, collection: string, signal: AbortSignal): Promise<Product[]> {
  const { products } = await api.json<{ products: Product[] }>(`${collection}/products`, {}, signal);
  return CARDS.flatMap((card) => {
    const of = products.filter((one) => one.card === card);
    return of.find((one) => one.name === card) ?? of[0] ?? [];
  });
}

/** Asks for what a product tells of a parcel. */
export async function graphsOf(
  api: Api,
  parcel: string,
  { name, card }: Product,
  signal: AbortSignal,
): Promise<Graph[]> {
  const query = { product: name, statistics: "mean", decibels: card === "bs" ? "true" : undefined };
  const { columns } = await api.json<Answer>(`${parcel}/signatures`, query, signal);
  const graphs =
    card === "s2"
      ? [ndvi(columns), bands(columns)]
      : card === "bs"
        ? [byOrbit(texts.backscatter, columns, "_mean_db", [-25, -5])]
        : [byOrbit(texts.coherence, columns, "_mean", [0, 1])];
  return graphs.filter((graph) => graph.lines.some((line) => line.points.length > 0));
}

function ndvi(columns: Record<string, Column>): Graph {
  const stored = columns["NDVI_mean"] ?? columns["NDVI_B8A_mean"];
  const values = stored ?? quotients(columns["B08_mean"] ?? columns["B8A_mean"], columns["B04_mean"]);
  const line = { name: "NDVI", kind: "ndvi", shown: true, points: points(columns, values) };
  const title = stored ? texts.ndvi : texts.ndviOfMeans;
  return { title, digits: 2, reach: [0, 1], lines: [line] };
}

function quotients(infrared: Column = [], red: Column = []): Column {
  return infrared.map((value, i) => {
    const other = red[i];
    if (typeof value !== "number" || typeof other !== "number" || value + other <= 0) return null;
    return (value - other) / (value + other);
  });
}

function bands(columns: Record<string, Column>): Graph {
  const lines = BANDS.filter((band) => columns[`${band}_mean`]).map((band) => ({
    name: band,
    kind: band,
    shown: SHOWN_AT_FIRST.includes(band),
    points: points(columns, columns[`${band}_mean`] ?? []),
  }));
  return { title: texts.bands, digits: 0, reach: [0, 1000], lines };
}

/** Radar sees a field from different sides: a line for each orbit. */
function byOrbit(
  title: string,
  columns: Record<string, Column>,
  ending: string,
  reach: [number, number],
): Graph {
  const directions = columns["orbit_direction"] ?? [];
  const numbers = columns["relative_orbit"] ?? [];
  const orbits = directions.map((one, i) => [one, numbers[i]].filter((part) => part !== null).join(" "));
  const lines: Line[] = [];
  for (const band of ["VV", "VH"])
    for (const orbit of [...new Set(orbits)].sort()) {
      const values = (columns[band + ending] ?? []).map((value, i) => (orbits[i] === orbit ? value : null));
      const kind = `${band} ${orbit.split(" ")[0]}`;
      const drawn = points(columns, values);
      if (drawn.length) lines.push({ name: `${band} ${orbit}`.trim(), kind, shown: true, points: drawn });
    }
  return { title, digits: ending === "_mean" ? 2 : 1, reach, lines };
}

function points(columns: Record<string, Column>, values: Column): Point[] {
  const found: Point[] = [];
  values.forEach((value, i) => {
    const time = Date.parse(String(columns["obstime"]?.[i]));
    const told = columns["clouded"]?.[i];
    const share = typeof told === "number" ? told : null;
    const clouded = share !== null && share > CLOUDED;
    if (typeof value === "number" && !Number.isNaN(time)) found.push({ time, value, clouded, share });
  });
  return found;
}
