/** The records that the Files view knows: pages of the service's list, kept right by events.
 *
 * Rule 1: newest first, as the service lists them; a record is there once.
 * Rule 2: whether a record fits the filters is the service's to say: what changed is asked for, never guessed.
 */
import { call, Problem, type FileRecord, type Page } from "../api";

export type Filters = Record<string, string>;

/** The largest page that the service gives. */
const PAGE = 200;
/** Up to so many changed records are asked for one by one; more cost less as one page. */
const ONE_BY_ONE = 8;

export class Rows {
  items: FileRecord[] = [];
  readonly #byId = new Map<string, FileRecord>();
  #next: string | null = null;
  #loading: Promise<void> | null = null;
  #filters: Filters = {};
  /** Grows with each new list, so that answers for an older one are dropped. */
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
  async reload(filters: Filters = this.#filters): Promise<void> {
    this.#filters = filters;
    this.#list += 1;
    const list = this.#list;
    const page = await this.#page(null);
    if (list !== this.#list) return;
    this.#byId.clear();
    this.items = [];
    this.#next = page.next;
    this.#append(page.items);
    this.changed();
  }

  /** Read the next page; whoever asks while it comes waits for the same one. */
  more(): Promise<void> {
    if (this.#next === null) return Promise.resolve();
    this.#loading ??= this.#readMore(this.#next).finally(() => (this.#loading = null));
    return this.#loading;
  }

  /** Bring what happened to these records into the list. */
  async refresh(ids: readonly string[]): Promise<void> {
    const list = this.#list;
    const fresh = ids.length <= ONE_BY_ONE ? await this.#each(ids) : (await this.#page(null)).items;
    const known = ids.filter((id) => this.#byId.has(id) && !fresh.some((record) => record.id === id));
    const rest = ids.length <= ONE_BY_ONE ? [] : await this.#each(known.slice(0, PAGE));
    if (list !== this.#list) return;
    const gone =
      ids.length <= ONE_BY_ONE ? known : known.filter((id) => !rest.some((record) => record.id === id));
    this.#take([...fresh, ...rest], new Set(gone));
    this.changed();
  }

  /** Take records out at once; the service is told by whoever calls. */
  remove(id: string): void {
    this.#take([], new Set([id]));
    this.changed();
  }

  async #readMore(cursor: string): Promise<void> {
    const list = this.#list;
    const page = await this.#page(cursor);
    if (list !== this.#list) return;
    this.#next = page.next;
    this.#append(page.items);
    this.changed();
  }

  #page(cursor: string | null): Promise<Page<FileRecord>> {
    return call("api/records", { query: { ...this.#filters, limit: PAGE, cursor } });
  }

  /** The records of these ids that are there; with filters, those on the first page or already here. */
  async #each(ids: readonly string[]): Promise<FileRecord[]> {
    const found = await Promise.all(ids.map((id) => this.#one(id)));
    const there = found.filter((record) => record !== null);
    if (Object.keys(this.#filters).length === 0 || there.every((record) => this.#byId.has(record.id)))
      return there;
    const head = new Set((await this.#page(null)).items.map((record) => record.id));
    return there.filter((record) => this.#byId.has(record.id) || head.has(record.id));
  }

  async #one(id: string): Promise<FileRecord | null> {
    try {
      const record = await call<FileRecord>(`api/records/${id}`);
      return record.deleted_at === null ? record : null;
    } catch (error) {
      if (error instanceof Problem && (error.status === 404 || error.status === 403)) return null;
      throw error;
    }
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
    for (const record of records) {
      if (!this.#byId.has(record.id)) added.push(record);
      this.#byId.set(record.id, record);
    }
    const kept = this.items.flatMap((record) => this.#byId.get(record.id) ?? []);
    this.items = added.length > 0 ? [...added, ...kept].sort(newestFirst) : kept;
  }
}

function newestFirst(one: FileRecord, other: FileRecord): number {
  return compare(other.created_at, one.created_at) || compare(other.id, one.id);
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}
