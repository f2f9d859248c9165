/** The records that the Files view knows: pages of the service's list, kept right by events.
 *
 * Rule 1: newest first, as the service lists them; a record is there once.
 * Rule 2: what is asked for is asked for until it comes: whoever sees the list need not know that a call failed.
 * Rule 3: whether a record fits the filters is the service's to say: what changed is asked for, never guessed.
 */
import { call, Problem, type FileRecord, type Page } from "../api";
import { persistently, type OnWait } from "../patience";

export type Filters = Record<string, string>;

/** The largest page that the service gives. */
const PAGE = 200;
/** Up to so many changed records are asked for one by one; more cost less as pages. */
const ONE_BY_ONE = 8;

/** The list that this belonged to is not there any more. */
class Superseded extends Error {}

export class Rows {
  items: FileRecord[] = [];
  readonly #byId = new Map<string, FileRecord>();
  #next: string | null = null;
  /** The list from its beginning, while it comes. */
  #reading: Promise<void> | null = null;
  /** The next page of this list, while it comes. */
  #loading: Promise<void> | null = null;
  #filters: Filters = {};
  /** Ends what is on its way for this list, when another one is begun or there. */
  #list = new AbortController();

  /** `onWait` is told while the service is away. */
  constructor(
    private readonly changed: () => void,
    private readonly onWait: OnWait = () => undefined,
  ) {}

  /** Whether there are more than are here. */
  get hasMore(): boolean {
    return this.#next !== null;
  }

  find(id: string): FileRecord | undefined {
    return this.#byId.get(id);
  }

  /** Read the list from its beginning. */
  reload(filters: Filters): Promise<void> {
    return this.#read(filters, 1);
  }

  /** Read all anew that is here, so that whoever reads far below stays there. */
  readAgain(): Promise<void> {
    return this.#read(this.#filters, this.items.length);
  }

  #read(filters: Filters, atLeast: number): Promise<void> {
    const signal = this.#begin();
    const reading = unlessSuperseded(this.#readPages(filters, atLeast, signal)).finally(() => {
      if (this.#reading === reading) this.#reading = null;
    });
    this.#reading = reading;
    return reading;
  }

  async #readPages(filters: Filters, atLeast: number, signal: AbortSignal): Promise<void> {
    const items: FileRecord[] = [];
    let next: string | null = null;
    do {
      const page = await this.#page(filters, next, signal);
      items.push(...page.items);
      next = page.next;
    } while (next !== null && items.length < atLeast);
    this.#begin();
    this.#filters = filters;
    this.#byId.clear();
    this.items = [];
    this.#next = next;
    this.#append(items);
    this.changed();
  }

  /** What is still on its way, a next page too, belongs to what was here before. */
  #begin(): AbortSignal {
    this.#loading = null;
    this.#list.abort(new Superseded());
    this.#list = new AbortController();
    return this.#list.signal;
  }

  /** Read the next page; whoever asks while it comes waits for the same one. */
  more(): Promise<void> {
    if (this.#next === null) return Promise.resolve();
    this.#loading ??= unlessSuperseded(this.#readMore(this.#next, this.#list.signal));
    return this.#loading;
  }

  /** Bring what happened to these records into the list. */
  async refresh(ids: readonly string[]): Promise<void> {
    for (let done = false; !done;) {
      // What was asked for before may be from before it happened, and would come in its place.
      await Promise.allSettled([this.#reading, this.#loading]);
      done = await this.#bring(ids);
    }
  }

  /** Whether the list is still the one that they were brought into. */
  async #bring(ids: readonly string[]): Promise<boolean> {
    if (Object.keys(this.#filters).length > 0) {
      await this.readAgain();
      return true;
    }
    const { signal } = this.#list;
    try {
      const head = ids.length > ONE_BY_ONE ? (await this.#page(this.#filters, null, signal)).items : [];
      const others = ids.filter((id) => !head.some((record) => record.id === id));
      if (others.length > ONE_BY_ONE) {
        await this.readAgain();
        return true;
      }
      const found = await Promise.all(others.map((id) => this.#ask(() => recordOf(id), signal)));
      const there = found.filter((record) => record !== null);
      const gone = others.filter((id) => !there.some((record) => record.id === id));
      this.#take([...head, ...there], new Set(gone));
      this.changed();
      return true;
    } catch (error) {
      if (error instanceof Superseded) return false;
      throw error;
    }
  }

  /** Take records out at once; the service is told by whoever calls. */
  remove(id: string): void {
    this.#take([], new Set([id]));
    this.changed();
  }

  async #readMore(cursor: string, signal: AbortSignal): Promise<void> {
    const page = await this.#page(this.#filters, cursor, signal).finally(() => {
      if (!signal.aborted) this.#loading = null;
    });
    this.#next = page.next;
    this.#append(page.items);
    this.changed();
  }

  #page(filters: Filters, cursor: string | null, signal: AbortSignal): Promise<Page<FileRecord>> {
    const query = { ...filters, limit: PAGE, cursor };
    return this.#ask(() => call("api/records", { query, signal }), signal);
  }

  /** Ask until there is an answer; throws Superseded where nobody needs it any more. */
  async #ask<T>(question: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const answer = await persistently(question, signal, this.onWait);
    signal.throwIfAborted();
    return answer;
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

async function unlessSuperseded(reading: Promise<void>): Promise<void> {
  try {
    await reading;
  } catch (error) {
    if (!(error instanceof Superseded)) throw error;
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
