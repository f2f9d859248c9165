/** The Files view: what arrived, as it is now. */
import "./style.css";
import { call, type FileRecord, type Problem, type Unreachable } from "../api";
import { h } from "../dom";
import type { Live } from "../live";
import { whileKnown, type Session } from "../session";
import { toast } from "../toasts";
import { sentence } from "../words";
import { Drawer } from "./drawer";
import { makeExport } from "./export";
import { makeFilters } from "./filters";
import { recordOf, Rows } from "./rows";
import { Table } from "./table";

/** Events are gathered for so long before the list is brought up to date. */
const GATHER_MS = 150;

export function makeFilesView(live: Live, session: Session): HTMLElement {
  const view = new FilesView(session);
  live.listen((message) => {
    if (message.type === "gap" && message.of === "records") void view.readAgain();
    if (message.type === "record") view.heard(message.event.record);
  });
  void view.reload();
  return view.element;
}

class FilesView {
  readonly element: HTMLElement;
  readonly #rows = new Rows(
    () => this.#draw(),
    (because) => this.#wait(because),
  );
  readonly #table = new Table({
    open: (record) => this.#drawer.open(record),
    delete: (record) => void this.#delete(record),
    has: (id) => this.#rows.find(id) !== undefined,
    near: () => void this.#more(),
  });
  readonly #drawer = new Drawer({
    delete: (record) => void this.#delete(record),
    closed: () => this.#table.resume(),
  });
  readonly #filters: ReturnType<typeof makeFilters>;
  readonly #note = h("p", { class: "note", role: "status" });
  readonly #waiting = h("p", { class: "waiting", role: "status", hidden: true });
  readonly #heard = new Set<string>();
  #gathering = 0;
  #loaded = false;

  constructor(session: Session) {
    this.#filters = makeFilters(session, (filters) => void this.#try(() => this.#rows.reload(filters)));
    this.element = h(
      "section",
      { id: "files", "aria-label": "Files" },
      h("h1", {}, "Files"),
      this.#filters.element,
      makeExport(() => this.#filters.current()),
      this.#waiting,
      this.#note,
      this.#table.element,
      this.#drawer.element,
    );
  }

  async reload(): Promise<void> {
    await this.#try(() => this.#rows.reload(this.#filters.current()));
  }

  /** Something may have happened that nobody told of. */
  async readAgain(): Promise<void> {
    await this.#try(() =>
      this.#loaded ? this.#rows.readAgain() : this.#rows.reload(this.#filters.current()),
    );
  }

  /** Who has scrolled to the end cannot scroll on to ask again: a page that was refused can be asked for. */
  async #more(): Promise<void> {
    await this.#try(
      () => this.#rows.more(),
      () => void this.#more(),
    );
  }

  /** Something happened to a record; many at once are looked at together. */
  heard(id: string): void {
    this.#heard.add(id);
    if (this.#gathering !== 0) return;
    this.#gathering = window.setTimeout(() => void this.#bringUpToDate(), GATHER_MS);
  }

  /** One after the other: a list that takes long to read would else never be shown while much happens. */
  async #bringUpToDate(): Promise<void> {
    while (this.#heard.size > 0) {
      const ids = [...this.#heard];
      this.#heard.clear();
      await this.#try(() => this.#rows.refresh(ids));
    }
    this.#gathering = 0;
  }

  #draw(): void {
    this.#loaded = true;
    this.#table.show(this.#rows.items, { hasMore: this.#rows.hasMore });
    this.#say(this.#rows.items.length === 0 ? this.#emptiness() : "");
    const { shown } = this.#drawer;
    if (shown) void this.#try(() => this.#redraw(shown));
  }

  /** Show what a record is now, also when it has left the list; close what is open of one that was deleted. */
  async #redraw({ id, filename }: FileRecord): Promise<void> {
    const record = this.#rows.find(id) ?? (await recordOf(id));
    if (this.#drawer.shown?.id !== id) return;
    if (record) this.#drawer.show(record);
    else {
      this.#drawer.close();
      toast(`${filename} was deleted.`);
    }
  }

  #emptiness(): string {
    const filtered = Object.keys(this.#filters.current()).length > 0;
    return filtered ? "No file fits these filters." : "No files yet. Drop some on this page.";
  }

  async #delete(record: FileRecord): Promise<void> {
    if (record.status === "uploading") {
      toast(`${record.filename} is still being uploaded; whoever sends it can cancel it.`);
      return;
    }
    await this.#try(async () => {
      await call(`api/records/${record.id}`, { method: "DELETE" });
      this.#rows.remove(record.id);
      toast(`Deleted ${record.filename}.`, { label: "Undo", press: () => void this.#restore(record) });
    });
  }

  async #restore(record: FileRecord): Promise<void> {
    await this.#try(async () => {
      await call(`api/records/${record.id}/restore`, { method: "POST" });
      await this.#rows.refresh([record.id]);
      toast(`${record.filename} is back.`);
      // The button that was pressed is gone, and the keyboard with it.
      if (document.activeElement === document.body) this.#table.goTo(record.id);
    });
  }

  async #try(job: () => Promise<void>, again?: () => void): Promise<void> {
    try {
      await whileKnown(job);
    } catch (error) {
      if (this.#loaded) toast(sentence(error), again && { label: "Try again", press: again });
      else this.#say(sentence(error));
    }
  }

  /** Say why the list may be old. */
  #wait(because: Problem | Unreachable | null): void {
    this.#waiting.hidden = because === null;
    this.#waiting.textContent = because === null ? "" : sentence(because);
  }

  #say(text: string): void {
    this.#note.textContent = text;
    this.#note.hidden = text === "";
  }
}
