// The dataset's own orthophoto of the ground around a parcel, as wide as the images of it.
import { Problem } from "./api";
import { make } from "./dom";
import type { Pictures } from "./pictures";
import { texts } from "./texts";

const SMALL = 112;

export class Ground {
  /** Collections without an orthophoto are asked once. */
  private readonly without = new Set<string>();

  constructor(private readonly pictures: Pictures) {}

  /** Shows it in its place, which stays empty where there is none. */
  async show(place: HTMLElement, collection: string, address: string, signal: AbortSignal): Promise<void> {
    if (this.without.has(collection)) return;
    const href = `${address}/background.png`;
    try {
      const src = await this.pictures.fetch(href, 2 * SMALL, signal);
      const image = make("img", { src, alt: texts.orthophoto, width: SMALL, height: SMALL });
      const click = () => void this.pictures.enlarge(texts.orthophoto, href, signal);
      const caption = make("figcaption", {}, texts.orthophoto);
      place.replaceChildren(make("figure", {}, make("button", { click }, image), caption));
    } catch (problem) {
      if (!(problem instanceof Problem && problem.code === "not_found")) throw problem;
      this.without.add(collection);
    }
  }
}
