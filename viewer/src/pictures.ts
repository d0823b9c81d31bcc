// Pictures that the API makes: fetched with the login, small in the panel, large in a dialog.
import type { Api } from "./api";
import { find, make } from "./dom";
import { texts } from "./texts";

const LARGE = 512;

export class Pictures {
  private readonly urls = new Set<string>();

  constructor(private readonly api: Api) {}

  /** Fetches a picture and gives its address within the page. */
  async fetch(href: string, side: number, signal: AbortSignal): Promise<string> {
    const answer = await this.api.get(href, { side }, signal);
    const url = URL.createObjectURL(await answer.blob());
    this.urls.add(url);
    return url;
  }

  /** Shows a picture in full size. */
  async enlarge(title: string, href: string, signal: AbortSignal): Promise<void> {
    const dialog = find<HTMLDialogElement>("#picture");
    const close = make("button", { class: "quiet close", "aria-label": texts.close, click: () => dialog.close() }, "×");
    const image = make("img", { alt: title, width: LARGE, height: LARGE });
    const hint = make("p", { class: "hint" }, texts.loading);
    dialog.replaceChildren(close, make("h2", {}, title), image, hint);
    dialog.ariaLabel = title;
    dialog.showModal();
    try {
      image.src = await this.fetch(href, LARGE, signal);
      hint.remove();
    } catch (error) {
      hint.textContent = (error as Error).message;
    }
  }

  forget(): void {
    for (const url of this.urls) URL.revokeObjectURL(url);
    this.urls.clear();
  }
}
