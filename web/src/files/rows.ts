/** The records that the Files view knows: pages of the service's list, kept right by events.
 *
 * Rule 1: newest first, as the service lists them; a record is there once.
 * Rule 2: whether a record fits the filters is the service's to say: what changed is asked for, never guessed.
 */
import { call, Problem, type FileRecord, type Page } from "../api";

export type Filters = Record<string, string>;

/** The largest page that the service gives. */
const PAGE = 200;
/** Up to so many changed records are asked for one by one; more cost less as pages. */
const ONE_BY_ONE = 8;

export class Rows {
  items: FileRecord[] = [];
  readonly #byId = new Map<string, FileRecord>();
  #next: string | null = null;
  /** The next page of this list, while it comes. */
  #loading: Promise<void> | null = null;
  #filters: Filters = {};
  /** Grows with each new list, and when one is begun, so that answers for an older one are dropped. */
  #list = 0;

  constructor(private readonly changed: () => void) {}

  /** Whether there are more than are here. */
  get hasMore(): boolean {
    return this.#next !== null;
  }

  find(id: string): FileRecord | undefined {
    return this.#byId.get(id);
  }

  /** Read the list from its beginning. */
  async reload(filters: Filters): Promise<void> {
    this.#filters = filters;
    await this.#read(1);
  }

  /** Read all anew that is here, so that whoever reads far below stays there. */
  #readAgain(): Promise<void> {
    return this.#read(this.items.length);
  }

  async #read(atLeast: number): Promise<void> {
    const list = this.#begin();
    const items: FileRecord[] = [];
    let next: string | null = null;
    do {
      const page = await this.#page(next);
      if (list !== this.#list) return;
      items.push(...page.items);
      next = page.next;
    } while (next !== null && items.length < atLeast);
    this.#begin();
    this.#byId.clear();
    this.items = [];
    this.#next = next;
    this.#append(items);
    this.changed();
  }

  /** What is still on its way, a next page too, belongs to what was here before. */
  #begin(): number {
    this.#loading = null;
    this.#list += 1;
    return this.#list;
  }

  /** Read the next page; whoever asks while it comes waits for the same one. */
  more(): Promise<void> {
    if (this.#next === null) return Promise.resolve();
    this.#loading ??= this.#readMore(this.#next);
    return this.#loading;
  }

  /** Bring what happened to these records into the list. */
  async refresh(ids: readonly string[]): Promise<void> {
    if (Object.keys(this.#filters).length > 0) return this.#readAgain();
    const list = this.#list;
    const head = ids.length > ONE_BY_ONE ? (await this.#page(null)).items : [];
    const others = ids.filter((id) => !head.some((record) => record.id === id));
    if (others.length > ONE_BY_ONE) return this.#readAgain();
    const found = await Promise.all(others.map((id) => recordOf(id)));
    if (list !== this.#list) return;
    const there = found.filter((record) => record !== null);
    const gone = others.filter((id) => !there.some((record) => record.id === id));
    this.#take([...head, ...there], new Set(gone));
    this.changed();
  }

  /** Take records out at once; the service is told by whoever calls. */
  remove(id: string): void {
    this.#take([], new Set([id]));
    this.changed();
  }

  async #readMore(cursor: string): Promise<void> {
    const list = this.#list;
    const page = await this.#page(cursor).finally(() => {
      if (list === this.#list) this.#loading = null;
    });
    if (list !== this.#list) return;
    this.#next = page.next;
    this.#append(page.items);
    this.changed();
  }

  #page(cursor: string | null): Promise<Page<FileRecord>> {
    return call("api/records", { query: { ...this.#filters, limit: PAGE, cursor } });
  }

  #append(records: FileRecord[]): void {
    for (const record of records) {
      if (this.#byId.has(record.id)) continue;
      this.#byId.set(record.id, record);
      this.items.push(record);
    }
  }

  #take(records: readonly FileRecord[], gone: ReadonlySet<string>): void {
    for (const id of gone) this.#byId.delete(id);
    const added: FileRecord[] = [];
    const last = this.items.at(-1);
    for (const record of records) {
      if (!this.#byId.has(record.id)) {
        // Older than all that is here: it comes with its own page.
        if (this.#next !== null && last && newestFirst(last, record) < 0) continue;
        added.push(record);
      }
      this.#byId.set(record.id, record);
    }
    const kept = this.items.flatMap((record) => this.#byId.get(record.id) ?? []);
    this.items = added.length > 0 ? [...added, ...kept].sort(newestFirst) : kept;
  }
}

/** A record as it is now; null where it is gone, or not for whoever is here. */
export async function recordOf(id: string): Promise<FileRecord | null> {
  try {
    const record = await call<FileRecord>(`api/records/${id}`);
    return record.deleted_at === null ? record : null;
  } catch (error) {
    if (error instanceof Problem && (error.status === 404 || error.status === 403)) return null;
    throw error;
  }
}

function newestFirst(one: FileRecord, other: FileRecord): number {
  return compare(other.created_at, one.created_at) || compare(other.id, one.id);
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}
