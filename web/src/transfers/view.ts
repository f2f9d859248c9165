/** The Transfers view: what this service sends to remotes, and what a Soulseek node beside it sends and fetches, as it is
 * now, and what one may want of it.
 *
 * For operators, and only where the service has a queue: elsewhere there is no such view.
 */
import "./style.css";
import { call, Problem, type Page } from "../api";
import { h } from "../dom";
import { duration, size } from "../format";
import type { Live } from "../live";
import { toast } from "../toasts";
import { sentence } from "../words";

/** A transfer as `GET /api/transfers` has it. */
export interface Transfer {
  id: string;
  direction: string;
  remote: string;
  target: string;
  phase: string;
  outcome: string | null;
  bytes: number;
  size: number | null;
  speed: number | null;
  eta_s: number | null;
  attempts: number;
  error: string | null;
  place?: number | null;
  retry_of: string | null;
}

type Wish = "pause" | "resume" | "bump" | "cancel" | "retry";

/** How often the list is read while it is seen: the stream of events tells nothing of a node's transfers. */
const LOOK_MS = 3000;
/** The newest so many; the largest page that the service gives. */
const SHOWN = 200;
const PHASES: Readonly<Record<string, string>> = {
  queued: "waiting",
  requested: "starting",
  queued_remotely: "waiting there",
  initializing: "starting",
  in_progress: "on its way",
  waiting_retry: "trying again",
  paused: "paused",
  blocked: "blocked",
};

/** The view; null where this service, or whoever is here, has none. */
export async function makeTransfersView(live: Live): Promise<HTMLElement | null> {
  try {
    await call("api/transfers", { query: { limit: 1 } });
  } catch (error) {
    if (error instanceof Problem) return null;
    throw error;
  }
  const view = new TransfersView();
  live.listen((message) => {
    if (message.type === "gap" && message.of === "transfers") void view.reload();
    if (message.type === "transfer") view.take(message.transfer);
    if (message.type === "transferGone") view.drop(message.id);
  });
  await view.reload();
  setInterval(() => void view.look(), LOOK_MS);
  return view.element;
}

class TransfersView {
  readonly element: HTMLElement;
  readonly #list = h("ul", { class: "transfers", "aria-label": "Transfers" });
  readonly #note = h(
    "p",
    { class: "note", role: "status" },
    "Nothing is being sent. Queue files with haulier push.",
  );
  readonly #rows = new Map<string, TransferRow>();
  /** Those that were heard of since the list was asked for; what it says of them may be older. */
  readonly #heard = new Set<string>();
  #reads = 0;

  constructor() {
    this.element = h(
      "section",
      { id: "transfers", "aria-label": "Transfers" },
      h("h1", {}, "Transfers"),
      this.#note,
      this.#list,
    );
  }

  /** Read the list where somebody sees it. That the service is away is told elsewhere. */
  async look(): Promise<void> {
    if (this.element.hidden || document.hidden) return;
    await this.#read().catch(() => undefined);
  }

  async reload(): Promise<void> {
    await this.#read().catch((error: unknown) => toast(sentence(error)));
  }

  /** Read the list; the rows of what is still there stay, with the focus that one of them may have. */
  async #read(): Promise<void> {
    this.#reads += 1;
    const read = this.#reads;
    this.#heard.clear();
    const { items } = await call<Page<Transfer>>("api/transfers", { query: { limit: SHOWN } });
    if (read !== this.#reads) return;
    const there = new Set(items.map(({ id }) => id));
    for (const id of this.#rows.keys()) if (!there.has(id) && !this.#heard.has(id)) this.drop(id);
    for (const transfer of items.reverse()) if (!this.#heard.has(transfer.id)) this.#show(transfer);
  }

  /** Show a transfer as it is now; new ones come first. */
  take(transfer: Transfer): void {
    this.#heard.add(transfer.id);
    this.#show(transfer);
  }

  #show(transfer: Transfer): void {
    const row = this.#rows.get(transfer.id);
    if (row) {
      row.show(transfer);
      return;
    }
    const fresh = new TransferRow(transfer, (wish) => void this.#wish(transfer.id, wish));
    this.#rows.set(transfer.id, fresh);
    this.#list.prepend(fresh.element);
    this.#tell();
  }

  drop(id: string): void {
    this.#heard.add(id);
    this.#rows.get(id)?.element.remove();
    this.#rows.delete(id);
    this.#tell();
  }

  async #wish(id: string, wish: Wish): Promise<void> {
    try {
      // What becomes of it comes as an event, or with the next look; the answer may be older than that.
      await call(`api/transfers/${id}/${wish}`, { method: "POST" });
      await this.#read();
    } catch (error) {
      toast(sentence(error));
    }
  }

  #tell(): void {
    this.#note.hidden = this.#rows.size > 0;
  }
}

/** One transfer; its elements stay, so that a button keeps the focus while numbers change. */
class TransferRow {
  readonly element: HTMLLIElement;
  readonly #bar = h("progress", {});
  readonly #state = h("span", { class: "badge" });
  readonly #numbers = h("span", { class: "numbers" });
  readonly #trouble = h("p", { class: "error", hidden: true });
  readonly #buttons: Map<Wish, HTMLButtonElement>;

  constructor(transfer: Transfer, wish: (wish: Wish) => void) {
    const fetched = transfer.direction === "download";
    const name = fetched
      ? `${transfer.target} from ${transfer.remote}`
      : `${transfer.remote}:${transfer.target}`;
    this.#bar.setAttribute("aria-label", name);
    const labels: [Wish, string][] = [
      ["pause", "Pause"],
      ["resume", "Resume"],
      ["bump", "To the front"],
      ["cancel", "Cancel"],
      ["retry", fetched ? "Fetch again" : "Send again"],
    ];
    this.#buttons = new Map(
      labels.map(([key, label]) => [
        key,
        h("button", { type: "button", "aria-label": `${label}: ${name}`, onclick: () => wish(key) }, label),
      ]),
    );
    this.element = h(
      "li",
      { "data-id": transfer.id },
      h("div", { class: "line" }, h("span", { class: "filename" }, name), this.#state),
      this.#bar,
      h("div", { class: "line" }, this.#numbers, h("span", { class: "buttons" }, ...this.#buttons.values())),
      this.#trouble,
    );
    this.show(transfer);
  }

  show(transfer: Transfer): void {
    const { outcome, phase } = transfer;
    this.#bar.max = Math.max(transfer.size ?? 1, 1);
    this.#bar.value = outcome === "succeeded" ? this.#bar.max : transfer.bytes;
    this.#state.textContent = outcome ?? PHASES[phase] ?? phase;
    this.#state.className = `badge ${outcome === null || outcome === "succeeded" ? (outcome ?? phase) : "failed"}`;
    this.#numbers.textContent = numbers(transfer);
    this.#trouble.textContent = transfer.error;
    this.#trouble.hidden = transfer.error === null;
    const possible = wishesOf(transfer);
    for (const [wish, button] of this.#buttons) button.hidden = !possible.includes(wish);
  }
}

function wishesOf({ phase, outcome, direction }: Transfer): Wish[] {
  if (outcome !== null) return outcome === "succeeded" || outcome === "superseded" ? [] : ["retry"];
  if (phase === "paused" || phase === "blocked") return ["resume", "cancel"];
  return phase === "queued" && direction === "upload" ? ["pause", "bump", "cancel"] : ["pause", "cancel"];
}

/** "12 MB of 30 MB · 8 MB/s · 3 s left" */
function numbers(transfer: Transfer): string {
  const running = transfer.phase === "in_progress";
  const parts = [
    transfer.size === null ? size(transfer.bytes) : `${size(transfer.bytes)} of ${size(transfer.size)}`,
    running && transfer.speed !== null ? `${size(transfer.speed)}/s` : "",
    running && transfer.eta_s !== null ? `${duration(transfer.eta_s)} left` : "",
    transfer.place ? `place ${transfer.place}` : "",
    transfer.attempts > 1 ? `attempt ${transfer.attempts}` : "",
  ];
  return parts.filter(Boolean).join(" · ");
}
