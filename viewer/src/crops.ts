// Which colour a crop has. Paul Tol's scheme "muted" (https://personal.sron.nl/~pault/), which people
// with any kind of colour blindness can tell apart.
import type { DataDrivenPropertyValueSpecification, ExpressionSpecification } from "maplibre-gl";

const COLOURS = ["#117733", "#ddcc77", "#88ccee", "#cc6677", "#332288", "#aa4499", "#44aa99", "#999933", "#882255"];
export const OTHER = "#9a9a9a";
/** The expression that gives a feature's crop; "" where none was declared. */
export const CROP = ["coalesce", ["get", "crop_code"], ["get", "crop_name"], ""];

export interface Crop {
  key: string;
  name: string;
  count: number;
}

/** Gives crops colours, first come, first served, so that a colour stays while the map moves. */
export class Palette {
  private readonly given = new Map<string, string>();

  /** Whether any of the crops, the most frequent first, got a colour just now. */
  add(crops: Crop[]): boolean {
    const before = this.given.size;
    for (const { key } of crops)
      if (key && !this.given.has(key) && this.given.size < COLOURS.length)
        this.given.set(key, COLOURS[this.given.size] as string);
    return this.given.size > before;
  }

  colour(key: string): string {
    return this.given.get(key) ?? OTHER;
  }

  has(key: string): boolean {
    return this.given.has(key);
  }

  /** The expression that gives a feature's colour. */
  expression(): DataDrivenPropertyValueSpecification<string> {
    if (!this.given.size) return OTHER;
    return ["match", CROP, ...[...this.given].flat(), OTHER] as unknown as ExpressionSpecification;
  }
}
