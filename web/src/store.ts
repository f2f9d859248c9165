/** What the browser keeps for this page.
 *
 * Rule 1: a browser may refuse to keep anything (a policy, a full disk). What it refuses is kept until the page ends, and
 *         nobody who keeps something here has to care.
 */

export class Store {
  readonly #refused = new Map<string, string>();

  /** Takes a function, since a browser may refuse even to say where its storage is. */
  constructor(private readonly area: () => Storage) {}

  get(name: string): string | null {
    return this.#refused.get(name) ?? this.#ask((area) => area.getItem(name), null);
  }

  set(name: string, value: string): void {
    this.#refused.set(name, value);
    this.#ask((area) => {
      area.setItem(name, value);
      this.#refused.delete(name);
    }, undefined);
  }

  remove(name: string): void {
    this.#refused.delete(name);
    this.#ask((area) => area.removeItem(name), undefined);
  }

  /** The names that begin so. */
  names(prefix: string): string[] {
    const kept = this.#ask((area) => Object.keys(area), []);
    return [...new Set([...kept, ...this.#refused.keys()])].filter((name) => name.startsWith(prefix));
  }

  #ask<T>(question: (area: Storage) => T, refused: T): T {
    try {
      return question(this.area());
    } catch {
      return refused;
    }
  }
}

/** For all tabs of this browser, until it is removed. */
export const browserStore = new Store(() => localStorage);
/** For this tab, over reloads. */
export const tabStore = new Store(() => sessionStorage);

/** Of the database that is made to see whether there can be one. */
const PROBE = "haulier.probe";
/** Some browsers neither open nor refuse one; the page does not wait for that. */
const PROBE_MS = 2000;

/** Whether the browser has a place for whole files. */
export async function hasPlaceForFiles(): Promise<boolean> {
  const late = new Promise<boolean>((told) => setTimeout(() => told(false), PROBE_MS));
  const opened = new Promise<boolean>((told) => {
    const request = indexedDB.open(PROBE);
    request.onerror = () => told(false);
    request.onsuccess = () => {
      request.result.close();
      indexedDB.deleteDatabase(PROBE);
      told(true);
    };
  });
  return Promise.race([opened, late]).catch(() => false);
}
