/** One request with bytes of a file, and how long to be patient with it.
 *
 * `fetch` does not tell how much of a body is sent; an XMLHttpRequest does, though of what it has handed over, which may
 * wait for long in the buffers of a slow link.
 */
import { address, problemOf, SILENCE_MS, Unreachable, Unreadable } from "../api";
import { deliveryMs, noteGivenUp, notePace } from "./pace";

export interface Transmission {
  method: "PUT" | "PATCH";
  path: string;
  query?: Record<string, string | null>;
  headers: Record<string, string>;
  body: Blob;
  signal: AbortSignal;
  /** Told how many bytes of the body were handed over. */
  onSent: (bytes: number) => void;
}

/** Send it; returns the text of the answer.
 *
 * Throws Problem, Unreachable, Unreadable, or the reason of the signal.
 */
export async function transmit(what: Transmission): Promise<string> {
  const begun = performance.now();
  try {
    const answer = await exchange(what);
    notePace(what.body.size, performance.now() - begun);
    return answer;
  } catch (error) {
    // To a browser both are one: a network that is away, and a file that is not what it was.
    if (error instanceof Unreachable && !(await isReadable(what.body))) throw new Unreadable();
    throw error;
  }
}

function exchange({ method, path, query, headers, body, signal, onSent }: Transmission): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = (): void => request.abort();
    const begun = performance.now();
    let handed = 0;
    const giveUp = (): void => {
      noteGivenUp(handed, performance.now() - begun);
      stop();
    };
    let timer = setTimeout(giveUp, SILENCE_MS);
    request.open(method, address(path, query));
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      handed = event.loaded;
      clearTimeout(timer);
      // What is handed over is told at once, and may need long to arrive.
      timer = setTimeout(giveUp, SILENCE_MS + deliveryMs(handed));
      onSent(Math.min(handed, body.size));
    };
    request.onloadend = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      if (signal.aborted) reject(signal.reason as Error);
      else if (request.status === 0) reject(new Unreachable("no answer"));
      else if (request.status >= 300)
        reject(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      else resolve(request.responseText);
    };
    signal.addEventListener("abort", stop);
    request.send(body);
  });
}

async function isReadable(body: Blob): Promise<boolean> {
  try {
    await body.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
