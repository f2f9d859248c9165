/** A picture that is asked for again when it does not come: a browser gives up at once, and shows that it did. */
import { h } from "../dom";
import { patience, pause } from "../patience";

/** Tries, a minute and a half in all: longer than a service is away. What is still no picture then is none. */
const TRIES = 12;

type Attributes = Parameters<typeof h>[1];

/** Show it; while it does not come there is nothing in its place, and what is below is seen. */
export function picture(src: string, attributes: Attributes): HTMLImageElement {
  const image = h("img", { src, ...attributes });
  let tries = 0;
  image.addEventListener("load", () => (image.style.visibility = ""));
  image.addEventListener("error", () => {
    image.style.visibility = "hidden";
    if (tries === TRIES) return;
    void pause(patience(tries, null), new AbortController().signal).then(() => {
      tries += 1;
      // Rows that cannot be seen are taken out; those that come back are made anew.
      if (image.isConnected) image.src = src;
    });
  });
  return image;
}
