/** One stream of events for all tabs of a browser.
 *
 * Rule 1: HTTP/1.1 has six connections for all tabs together, and a stream holds one. So one tab has the stream, the one
 *         that got the lock, and tells the others; when it closes the next one gets the lock.
 * Rule 2: where there are no locks (plain http names) each visible tab has its own stream.
 * Rule 3: after `gap` a list is read anew: something may have happened that no event tells. What happens to records is
 *         told from where a stream was before it broke, what happens to transfers only from then on.
 */
import { BASE } from "./api";
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
  | { type: "connected"; connected: boolean };

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
    const source = new EventSource(new URL("api/events", BASE));
    this.#source = source;
    let first = true;
    source.addEventListener("open", () => this.#share({ type: "connected", connected: true }));
    source.addEventListener("ready", () => {
      if (first) this.#share({ type: "gap", of: "records" });
      this.#share({ type: "gap", of: "transfers" });
      first = false;
    });
    source.addEventListener("reset", () => {
      this.#share({ type: "gap", of: "records" });
      this.#share({ type: "gap", of: "transfers" });
    });
    for (const name of RECORD_EVENTS) {
      source.addEventListener(`record.${name}`, (event: MessageEvent<string>) =>
        this.#share({ type: "record", event: JSON.parse(event.data) as RecordEvent }),
      );
    }
    for (const name of ["changed", "progress"]) {
      source.addEventListener(`transfer.${name}`, (event: MessageEvent<string>) =>
        this.#share({ type: "transfer", transfer: JSON.parse(event.data) as Transfer }),
      );
    }
    source.addEventListener("transfer.removed", (event: MessageEvent<string>) =>
      this.#share({ type: "transferGone", id: (JSON.parse(event.data) as { id: string }).id }),
    );
    source.addEventListener("error", () => this.#failed(source));
  }

  #failed(source: EventSource): void {
    this.#share({ type: "connected", connected: false });
    if (source.readyState !== EventSource.CLOSED) return;
    this.#source = null;
    setTimeout(() => this.#follow(), AGAIN_MS);
  }

  #close(): void {
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
