// The document's elements, found and made.
import { texts } from "./texts";

export function find<T extends Element>(selector: string): T {
  const found = document.querySelector<T>(selector);
  if (!found) throw new Error(`no element ${selector}`);
  return found;
}

type Attributes = Record<string, string | number | boolean | ((event: never) => void)>;
type Child = Node | string;

/** Makes an element; functions become listeners of the event that the attribute names. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  fill(made, attributes, children);
  return made;
}

export function makeSvg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(made, attributes, children);
  return made;
}

function fill(made: Element, attributes: Attributes, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value as EventListener);
    else if (typeof value !== "boolean") made.setAttribute(name, String(value));
    else if (value) made.setAttribute(name, "");
  }
  made.append(...children);
}

/** Puts what went wrong where the result would stand; it can be tried again there. */
export async function report(place: HTMLElement, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof DOMException) return;
    const again = () => {
      place.replaceChildren(make("p", { class: "hint" }, texts.loading));
      void report(place, work);
    };
    const what = make("p", { class: "problem", role: "alert" }, (error as Error).message);
    place.replaceChildren(what, make("button", { class: "quiet", click: again }, texts.tryAgain));
  }
}
