// What is shown of one parcel: its data, curves over time, and images in a strip.
import type { Api } from "./api";
import { type Chart, chart, day } from "./chart";
import { Chips } from "./chips";
import { make, report } from "./dom";
import { gaps } from "./gaps";
import { Ground } from "./ground";
import { Pictures } from "./pictures";
import { graphsOf, productsOf } from "./series";
import { texts } from "./texts";

export interface Parcel {
  id: string | number;
  geometry: { coordinates: unknown };
  properties: Record<string, unknown>;
}

export class Panel {
  private asked = new AbortController();
  private charts: Chart[] = [];
  private chips: Chips | null = null;
  private readonly pictures: Pictures;
  private readonly ground: Ground;

  constructor(
    private readonly element: HTMLElement,
    private readonly api: Api,
    private readonly onClose: () => void,
  ) {
    this.pictures = new Pictures(api);
    this.ground = new Ground(this.pictures);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.onClose();
    });
  }

  close(): void {
    this.asked.abort();
    this.chips?.forget();
    this.pictures.forget();
    this.element.hidden = true;
    this.element.replaceChildren();
  }

  /** Shows a parcel; what else is known of it lies under its address and the collection's. */
  async show(collection: string, address: string, pid: string, parcel: Parcel): Promise<void> {
    this.close();
    this.asked = new AbortController();
    const { signal } = this.asked;
    const close = make("button", { class: "quiet close", "aria-label": texts.close, click: this.onClose }, "×");
    const curves = make("section", { class: "curves" }, make("p", { class: "hint" }, texts.loading));
    const strip = make("section", { class: "strip" });
    const heading = make("h2", {}, `${texts.parcel} ${pid}`);
    const ground = make("section", { class: "ground" });
    const about = make("div", { class: "about" }, facts(parcel.properties), ground);
    this.element.replaceChildren(close, heading, about, strip, curves);
    this.element.hidden = false;
    this.element.scrollTop = 0;
    this.element.focus({ preventScroll: true });
    this.chips = new Chips(strip, this.api, this.pictures, (time) => this.readAt(time));
    const { chips } = this;
    await Promise.all([
      report(ground, () => this.ground.show(ground, collection, address, signal)),
      report(strip, () => chips.show(address, signal)),
      report(curves, () => this.showCurves(curves, collection, address, signal)),
    ]);
  }

  private async showCurves(
    place: HTMLElement,
    collection: string,
    address: string,
    signal: AbortSignal,
  ): Promise<void> {
    const products = await productsOf(this.api, collection, signal);
    const asked = products.map((product) => graphsOf(this.api, address, product, signal));
    const graphs = (await Promise.all(asked)).flat();
    if (!graphs.length) return place.replaceChildren(make("p", { class: "hint" }, texts.noSeries));
    const points = graphs.flatMap(({ lines }) => lines.flatMap((line) => line.points));
    const moments = [...new Set(points.map(({ time }) => time))].sort((a, b) => a - b);
    this.chips?.tellClouds(new Map(points.flatMap(({ time, share }) => (share === null ? [] : [[time, share]]))));
    const period: [number, number] = [moments[0] as number, moments.at(-1) as number];
    const slider = make("input", {
      type: "range",
      min: 0,
      max: moments.length - 1,
      "aria-label": texts.observation,
      input: () => go(slider.valueAsNumber),
    });
    const go = (index: number) => {
      const time = moments[index] as number;
      slider.valueAsNumber = index;
      slider.setAttribute("aria-valuetext", day(time));
      this.readAt(time);
    };
    this.charts = graphs.map((graph) =>
      chart(graph, period, (time) => {
        const nearest = moments.reduce((best, one) => (Math.abs(one - time) < Math.abs(best - time) ? one : best));
        go(moments.indexOf(nearest));
      }),
    );
    const saves = products.map(({ name }) => {
      const click = () => void this.save(address, name);
      return make("button", { class: "quiet", click }, texts.download(name));
    });
    const cloudKey = make("p", { class: "hint" }, texts.clearAndClouded);
    const downloads = make("div", { class: "downloads" }, ...saves);
    place.replaceChildren(slider, ...this.charts.map(({ element }) => element), cloudKey, gaps(this.api, address, signal), downloads);
    go(moments.length - 1);
  }

  private readAt(time: number): void {
    for (const one of this.charts) one.readAt(time);
    this.chips?.mark(time);
  }

  private async save(address: string, product: string): Promise<void> {
    const answer = await this.api.get(`${address}/signatures`, { product, f: "csv" });
    const url = URL.createObjectURL(await answer.blob());
    make("a", { href: url, download: `${address.split("/").at(-1)}_${product}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}

function facts(properties: Record<string, unknown>): HTMLElement {
  const list = make("dl");
  const tell = (name: string, value: unknown) => {
    if (value === null || value === undefined || value === "") return;
    list.append(make("dt", {}, name), make("dd", {}, String(value)));
  };
  const { pid: _, crop_code, crop_name, area_m2, valid_from, valid_to, ...others } = properties;
  const crop = [...new Set([crop_name, crop_code].filter((part) => part))].join(" · ");
  tell(texts.crop, crop || texts.noCrop);
  if (typeof area_m2 === "number")
    tell(texts.area, area_m2 < 1000 ? texts.squareMetres(area_m2) : texts.hectares(area_m2 / 10_000));
  tell(texts.valid, texts.validBetween(String(valid_from ?? ""), String(valid_to ?? "")));
  for (const [name, value] of Object.entries(others))
    tell(name, typeof value === "object" && value !== null ? JSON.stringify(value) : value);
  return list;
}
