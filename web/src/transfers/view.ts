/** The Transfers view: what this service sends to remotes, and what a Soulseek node beside it sends and fetches, as it is
 * now, and what one may want of it.
 *
 * For operators, and only where the service has a queue: elsewhere there is no such view.
 */
import "./style.css";
import { call, Problem, type Options, type Page } from "../api";
import { h } from "../dom";
import { duration, size } from "../format";
import type { Live } from "../live";
import { persistently, type OnWait } from "../patience";
import { toast } from "../toasts";
import { sentence } from "../words";

/** A transfer as `GET /api/transfers` has it. */
export interface Transfer {
  id: string;
  direction: string;
  remote: string;
  target: string;
  path: string;
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

/** How often the list is read while it is seen: others' places in a queue move without an event of their own. */
const LOOK_MS = 3000;
/** The largest page that the service gives; of those that ended so many are shown. */
const PAGE = 200;
/** Of those that have not ended all are shown, since the oldest run first; but a page has its limits too. */
const LIVE_PAGES = 5;
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
export async function makeTransfersView(live: Live, onWait: OnWait): Promise<HTMLElement | null> {
  if (!(await persistently(hasQueue, new AbortController().signal, onWait))) return null;
  const view = new TransfersView();
  live.listen((message) => {
    if (message.type === "gap" && message.of === "transfers") void view.reload();
    if (message.type === "transfer") view.take(message.transfer);
    if (message.type === "transferGone") view.drop(message.id);
  });
  void view.reload();
  setInterval(() => void view.look(), LOOK_MS);
  return view.element;
}

async function hasQueue(): Promise<boolean> {
  try {
    await call("api/transfers", { query: { limit: 1 } });
    return true;
  } catch (error) {
    // A service without a queue says that its journal is not available, and never will be.
    const without = error instanceof Problem && (!error.passing || error.slug === "storage-unavailable");
    if (!without) throw error;
    return false;
  }
}

class TransfersView {
  readonly element: HTMLElement;
  readonly #list = h("ul", { class: "transfers", "aria-label": "Transfers" });
  readonly #note = h(
    "p",
    { class: "note", role: "status", hidden: true, tabindex: -1 },
    "Nothing is being sent. Queue files with haulier push.",
  );
  readonly #rows = new Map<string, TransferRow>();
  /** Those that were heard of since the list was asked for; what it says of them may be older. */
  readonly #heard = new Set<string>();
  #reads = 0;
  /** Looks that are not answered yet: where answers take long they would pile up, and each drop the one before. */
  #underWay = 0;

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
    if (this.element.hidden || document.hidden || this.#underWay > 0) return;
    await this.#read().catch(() => undefined);
  }

  async reload(): Promise<void> {
    await this.#read().catch((error: unknown) => toast(sentence(error)));
  }

  async #read(): Promise<void> {
    this.#underWay += 1;
    await this.#readOnce().finally(() => (this.#underWay -= 1));
  }

  /** Read the list; the rows of what is still there stay, with the focus that one of them may have. */
  async #readOnce(): Promise<void> {
    this.#reads += 1;
    const read = this.#reads;
    this.#heard.clear();
    const { items, whole } = await readList();
    if (read !== this.#reads) return;
    const there = new Set(items.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (!there.has(id) && !this.#heard.has(id) && (whole || row.ended)) this.drop(id);
    }
    for (const transfer of items.reverse()) if (!this.#heard.has(transfer.id)) this.#show(transfer);
    this.#tell();
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
    const row = this.#rows.get(id);
    if (!row) return;
    const { nextElementSibling, previousElementSibling } = row.element;
    const focused = row.element.contains(document.activeElement);
    row.element.remove();
    this.#rows.delete(id);
    this.#tell();
    if (!focused) return;
    const neighbour = [...this.#rows.values()].find(
      ({ element }) => element === (nextElementSibling ?? previousElementSibling),
    );
    (neighbour ?? this.#note).focus();
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

/** Those that have not ended, then the newest of those that have; not whole where there are more of the former. */
async function readList(): Promise<{ items: Transfer[]; whole: boolean }> {
  const found = new Map<string, Transfer>();
  let next: string | null = null;
  // In this order: what ends meanwhile is in both.
  for (let page = 0; page === 0 || (next !== null && page < LIVE_PAGES); page += 1) {
    next = await readPage(found, { live: true, cursor: next });
  }
  await readPage(found, { live: false });
  return { items: [...found.values()], whole: next === null };
}

async function readPage(found: Map<string, Transfer>, query: Options["query"]): Promise<string | null> {
  const { items, next } = await call<Page<Transfer>>("api/transfers", { query: { limit: PAGE, ...query } });
  for (const transfer of items) found.set(transfer.id, transfer);
  return next;
}

/** One transfer; its elements stay, so that a button keeps the focus while numbers change, and gives it to another one
 * when it is not to be pressed any more.
 */
class TransferRow {
  readonly element: HTMLLIElement;
  ended = false;
  readonly #bar = h("progress", {});
  readonly #state = h("span", { class: "badge" });
  readonly #numbers = h("span", { class: "numbers" });
  readonly #trouble = h("p", { class: "error", hidden: true });
  readonly #buttons: Map<Wish, HTMLButtonElement>;

  constructor(transfer: Transfer, wish: (wish: Wish) => void) {
    const fetched = transfer.direction === "download";
    const name = nameOf(transfer);
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
      { "data-id": transfer.id, tabindex: -1 },
      h("div", { class: "line" }, h("span", { class: "filename" }, name), this.#state),
      this.#bar,
      h("div", { class: "line" }, this.#numbers, h("span", { class: "buttons" }, ...this.#buttons.values())),
      this.#trouble,
    );
    this.show(transfer);
  }

  show(transfer: Transfer): void {
    const { outcome, phase } = transfer;
    this.ended = outcome !== null;
    this.#bar.max = Math.max(transfer.size ?? 1, 1);
    this.#bar.value = outcome === "succeeded" ? this.#bar.max : transfer.bytes;
    this.#state.textContent = outcome ?? PHASES[phase] ?? phase;
    this.#state.className = `badge ${outcome === null || outcome === "succeeded" ? (outcome ?? phase) : "failed"}`;
    this.#numbers.textContent = numbers(transfer);
    this.#trouble.textContent = transfer.error;
    this.#trouble.hidden = transfer.error === null;
    this.#offer(wishesOf(transfer));
  }

  #offer(possible: Wish[]): void {
    const pressed = [...this.#buttons.values()].find((button) => button === document.activeElement);
    for (const [wish, button] of this.#buttons) button.hidden = !possible.includes(wish);
    if (pressed?.hidden) this.focus();
  }

  /** Go on with the keyboard here: at the first button, or at the row where there is none. */
  focus(): void {
    const offered = [...this.#buttons.values()].find((button) => !button.hidden);
    (offered ?? this.element).focus();
  }
}

function nameOf(transfer: Transfer): string {
  const { target, remote, direction } = transfer;
  if (direction === "download") return `${target} from ${remote}`;
  return isPeers(transfer) ? `${target} to ${remote}` : `${remote}:${target}`;
}

function wishesOf(transfer: Transfer): Wish[] {
  const { phase, outcome, direction } = transfer;
  const queued = phase === "queued" && direction === "upload";
  if (isPeers(transfer)) return outcome !== null ? [] : queued ? ["bump", "cancel"] : ["cancel"];
  if (outcome !== null) return outcome === "succeeded" || outcome === "superseded" ? [] : ["retry"];
  if (phase === "paused" || phase === "blocked") return ["resume", "cancel"];
  return queued ? ["pause", "bump", "cancel"] : ["pause", "cancel"];
}

/** Whether a peer of the Soulseek node asked for it, who alone says when it begins: such files have no path here. */
function isPeers({ direction, path }: Transfer): boolean {
  return direction === "upload" && path === "";
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
