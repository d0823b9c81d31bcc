// Dates without a value, and why: asked for when somebody wants to know.
import type { Api } from "./api";
import { day } from "./chart";
import { make, report } from "./dom";
import { texts } from "./texts";

interface Answer {
  answers: { obstime: string; product: string; code: string; why: string }[];
}

/** A list to be opened, of the parcel at `address`. */
export function gaps(api: Api, address: string, signal: AbortSignal): HTMLElement {
  const list = make("ul", {}, make("li", {}, texts.loading));
  const details = make("details", { class: "gaps" }, make("summary", {}, texts.gaps), list);
  const fill = async () => {
    const { answers } = await api.json<Answer>(`${address}/coverage`, {}, signal);
    const missing = answers.filter(({ code }) => code !== "ok");
    const lines = missing.map(({ obstime, product, why }) => [day(Date.parse(obstime)), product, why].join(" · "));
    list.replaceChildren(...(lines.length ? lines : [texts.noGaps]).map((line) => make("li", {}, line)));
  };
  details.addEventListener("toggle", () => void report(list, fill), { once: true });
  return details;
}
