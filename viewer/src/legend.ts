// The crops in view and their colours; one of them can be shown alone.
import type { Crop } from "./crops";
import { make, makeSvg } from "./dom";
import type { ParcelMap } from "./map";
import { texts } from "./texts";

const LONGEST = 12;

export class Legend {
  constructor(private readonly element: HTMLElement) {}

  show(crops: Crop[], cells: boolean, map: ParcelMap): void {
    this.element.hidden = crops.length === 0;
    const focused = (document.activeElement as HTMLElement | null)?.dataset["crop"];
    const entries = crops.slice(0, LONGEST).map((crop) => this.entry(crop, crops, cells, map));
    const more = crops.length > LONGEST ? [make("li", {}, texts.moreCrops(crops.length - LONGEST))] : [];
    const note = cells ? [make("p", { class: "hint" }, texts.cells)] : [];
    const open = this.element.querySelector("details")?.open ?? matchMedia("(min-width: 45rem)").matches;
    const list = make("ul", {}, ...entries, ...more);
    this.element.replaceChildren(
      make("details", { open }, make("summary", {}, texts.crops), list, ...note),
    );
    if (focused !== undefined)
      this.element.querySelector<HTMLElement>(`[data-crop="${CSS.escape(focused)}"]`)?.focus();
  }

  private entry(crop: Crop, crops: Crop[], cells: boolean, map: ParcelMap): HTMLElement {
    const only = map.shownOnly === crop.key;
    const choose = () => {
      map.showOnly(only ? null : crop.key);
      this.show(crops, cells, map);
    };
    const name = crop.name || texts.noCrop;
    const swatch = makeSvg("svg", { class: "swatch", viewBox: "0 0 12 12", "aria-hidden": "true" },
      makeSvg("rect", { width: 12, height: 12, fill: map.colour(crop.key) }));
    const label = texts.onlyThisCrop(name);
    return make("li", {}, make("button", {
      class: "quiet", "data-crop": crop.key, "aria-pressed": String(only), "aria-label": label, title: label,
      click: choose,
    }, swatch, name));
  }
}
