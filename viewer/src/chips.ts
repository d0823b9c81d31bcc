// A strip of small images of the parcel, one a date; each is fetched when it comes into view.
import type { Api } from "./api";
import { day } from "./chart";
import { make, report } from "./dom";
import type { Pictures } from "./pictures";
import { texts } from "./texts";

const SMALL = 96;
const AN_HOUR = 3_600_000;
/** What images are shown as: a card, and bands of which the first that there is counts. */
const STYLES: { name: string; card: string; bands: string[][] }[] = [
  { name: texts.naturalColours, card: "s2", bands: [["B04"], ["B03"], ["B02"]] },
  { name: texts.infrared, card: "s2", bands: [["B08", "B8A"], ["B04"], ["B03"]] },
  { name: texts.shortWave, card: "s2", bands: [["B08", "B8A"], ["B11"], ["B04"]] },
  { name: texts.radar, card: "bs", bands: [["VV"]] },
];

interface Chip {
  scene: number;
  obstime: string;
  bands: string[];
}

export class Chips {
  private readonly figures = new Map<number, HTMLElement>();
  private observer: IntersectionObserver | null = null;
  private clouds = new Map<number, number>();
  private style = 0;
  private marked = NaN;

  constructor(
    private readonly place: HTMLElement,
    private readonly api: Api,
    private readonly pictures: Pictures,
    private readonly onMoment: (time: number) => void,
  ) {}

  /** Shows what images there are of the parcel at `address`. */
  async show(address: string, signal: AbortSignal): Promise<void> {
    const { card, bands } = STYLES[this.style] as (typeof STYLES)[number];
    const query = { card, limit: 500 };
    const answer = await this.api.jsonIfThere<{ chips: Chip[] }>(`${address}/chips`, query, signal);
    signal.throwIfAborted();
    this.forget();
    const strip = make("div", { class: "chips" });
    this.observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries)
        if (isIntersecting) this.load(target as HTMLElement, signal);
    }, { root: strip, rootMargin: "200px" });
    let month = "";
    for (const chip of answer?.chips ?? []) {
      const chosen = bands.map((names) => names.find((band) => chip.bands.includes(band)));
      if (chosen.includes(undefined)) continue;
      const href = `${address}/chips/${chip.scene}.png?bands=${chosen.join(",")}`;
      const time = Date.parse(chip.obstime);
      strip.append(this.figure(time, href, month, signal));
      month = day(time).slice(0, 7);
    }
    const nothing = make("p", { class: "hint" }, texts.noChips);
    const choice = this.choice(address, signal);
    this.place.replaceChildren(make("div", { class: "field" }, make("h3", {}, texts.chips), choice),
      strip.childElementCount ? strip : nothing);
    this.tellClouds(this.clouds);
    this.mark(this.marked);
  }

  /** Writes below the images how much of the parcel was clouded (time -> share). */
  tellClouds(clouds: Map<number, number>): void {
    this.clouds = clouds;
    for (const [time, figure] of this.figures) {
      const known = [...clouds].find(([other]) => Math.abs(other - time) < AN_HOUR);
      const text = known ? texts.cloudShare(Math.round(known[1] * 100)) : "";
      figure.querySelector("small")?.replaceChildren(text);
    }
  }

  /** Marks the image nearest to a moment. */
  mark(time: number): void {
    this.marked = time;
    let nearest: HTMLElement | undefined;
    let least = Infinity;
    for (const [one, figure] of this.figures) {
      figure.classList.remove("marked");
      if (Math.abs(one - time) < least) [nearest, least] = [figure, Math.abs(one - time)];
    }
    if (!nearest || least > 24 * AN_HOUR) return;
    nearest.classList.add("marked");
    const strip = nearest.parentElement as HTMLElement;
    strip.scrollTo({ left: nearest.offsetLeft - strip.offsetLeft - strip.clientWidth / 2 + SMALL / 2 });
  }

  forget(): void {
    this.observer?.disconnect();
    this.figures.clear();
  }

  private choice(address: string, signal: AbortSignal): HTMLElement {
    const options = STYLES.map(({ name }, i) => make("option", { value: i, selected: i === this.style }, name));
    const change = () => {
      this.style = Number(select.value);
      void report(this.place, () => this.show(address, signal));
    };
    const select = make("select", { "aria-label": texts.imageStyle, change }, ...options);
    return select;
  }

  private figure(time: number, href: string, month: string, signal: AbortSignal): HTMLElement {
    const date = day(time);
    const open = () => {
      this.onMoment(time);
      void this.pictures.enlarge(texts.chip(date), href, signal);
    };
    const image = make("img", { alt: texts.chip(date), width: SMALL, height: SMALL });
    const heading = make("p", { class: "month" }, date.startsWith(month || "-") ? "" : texts.month(time));
    const caption = make("figcaption", {}, date, make("small"));
    const figure = make("figure", { "data-href": href }, heading, make("button", { click: open }, image), caption);
    this.figures.set(time, figure);
    this.observer?.observe(figure);
    return figure;
  }

  private load(figure: HTMLElement, signal: AbortSignal): void {
    this.observer?.unobserve(figure);
    const image = figure.querySelector("img") as HTMLImageElement;
    this.pictures.fetch(figure.dataset["href"] ?? "", SMALL * 2, signal)
      .then((url) => (image.src = url))
      .catch((error: Error) => {
        const button = figure.querySelector("button") as HTMLElement;
        button.replaceChildren(texts.chipFailed);
        button.title = error.message;
      });
  }
}
