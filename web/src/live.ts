/** One stream of events for all tabs of a browser.
 *
 * Rule 1: HTTP/1.1 has six connections for all tabs together, and a stream holds one. So one tab has the stream, the one
 *         that got the lock, and tells the others; when it closes the next one gets the lock.
 * Rule 2: where there are no locks (plain http names) each visible tab has its own stream.
 * Rule 3: after `gap` a list is read anew: something may have happened that no event tells. What happens to records is
 *         told from where a stream was before it broke, what happens to transfers only from then on.
 * Rule 4: a stream says something four times a minute; one that does not is given up for another one.
 */
import { address, BASE, SILENCE_MS } from "./api";
import type { Transfer } from "./transfers/view";

/** What happened to a record; see `GET /api/events` of the service. */
export interface RecordEvent {
  kind: string;
  record: string;
}

export type Message =
  | { type: "record"; event: RecordEvent }
  | { type: "transfer"; transfer: Transfer }
  | { type: "transferGone"; id: string }
  | { type: "gap"; of: "records" | "transfers" }
  | { type: "connected"; connected: boolean }
  /** The service let this tab have no stream; it is asked for again. */
  | { type: "refused" };

type Listener = (message: Message) => void;

/** Of the lock and the channel; one browser may have pages of several services below one name. */
const NAME = `haulier.events ${BASE.pathname}`;
const RECORD_EVENTS = [
  "created",
  "completed",
  "failed",
  "cancelled",
  "expired",
  "updated",
  "deleted",
  "restored",
  "erased",
];
/** A stream that was refused is tried again after so long; one that broke is the browser's to mend. */
const AGAIN_MS = 5000;

export class Live {
  readonly #listeners = new Set<Listener>();
  readonly #others = "BroadcastChannel" in window ? new BroadcastChannel(NAME) : null;
  #source: EventSource | null = null;
  #silence: ReturnType<typeof setTimeout> | undefined;
  /** Whether this tab is to have a stream of its own. */
  #wanted = (): boolean => true;

  /** Begin to listen; the messages go to all listeners of this tab. */
  start(): void {
    this.#others?.addEventListener("message", (event: MessageEvent<Message>) => this.#tell(event.data));
    if ("locks" in navigator && this.#others) {
      void navigator.locks.request(NAME, () => {
        this.#open();
        return new Promise(() => undefined);
      });
    } else {
      this.#wanted = () => !document.hidden;
      document.addEventListener("visibilitychange", () => this.#follow());
      this.#follow();
    }
  }

  /** Be told from now on. */
  listen(listener: Listener): void {
    this.#listeners.add(listener);
  }

  /** Have a stream, or none, as it is now wanted. */
  #follow(): void {
    if (this.#wanted()) this.#open();
    else this.#close();
  }

  #open(): void {
    if (this.#source) return;
    const source = new EventSource(address("api/events", { beat: true }));
    this.#source = source;
    const on = (name: string, job: (data: string) => void): void =>
      source.addEventListener(name, (event: MessageEvent<string>) => {
        this.#heard(source);
        job(event.data);
      });
    let first = true;
    on("open", () => this.#share({ type: "connected", connected: true }));
    on("beat", () => undefined);
    on("ready", () => {
      if (first) this.#share({ type: "gap", of: "records" });
      this.#share({ type: "gap", of: "transfers" });
      first = false;
    });
    on("reset", () => {
      this.#share({ type: "gap", of: "records" });
      this.#share({ type: "gap", of: "transfers" });
    });
    for (const name of RECORD_EVENTS)
      on(`record.${name}`, (data) => this.#share({ type: "record", event: JSON.parse(data) as RecordEvent }));
    for (const name of ["changed", "progress"])
      on(`transfer.${name}`, (data) =>
        this.#share({ type: "transfer", transfer: JSON.parse(data) as Transfer }),
      );
    on("transfer.removed", (data) =>
      this.#share({ type: "transferGone", id: (JSON.parse(data) as { id: string }).id }),
    );
    on("transfer.reset", () => this.#share({ type: "gap", of: "transfers" }));
    source.addEventListener("error", () => this.#failed(source));
    this.#heard(source);
  }

  /** A stream that is silent for longer than the service ever is has died without a word; another one is opened. */
  #heard(source: EventSource): void {
    clearTimeout(this.#silence);
    if (source !== this.#source) return;
    this.#silence = setTimeout(() => {
      this.#share({ type: "connected", connected: false });
      this.#close();
      this.#follow();
    }, SILENCE_MS);
  }

  #failed(source: EventSource): void {
    this.#share({ type: "connected", connected: false });
    if (source.readyState !== EventSource.CLOSED) {
      this.#heard(source);
      return;
    }
    this.#close();
    this.#tell({ type: "refused" });
    setTimeout(() => this.#follow(), AGAIN_MS);
  }

  #close(): void {
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
  }

  #share(message: Message): void {
    this.#others?.postMessage(message);
    this.#tell(message);
  }

  #tell(message: Message): void {
    for (const listener of this.#listeners) listener(message);
  }
}
