import { expect, test } from "vitest";
import { Store } from "../../src/store";

/** A browser's storage, which refuses what it is told to. */
class Area {
  full = false;
  readonly #kept = new Map<string, string>();

  static of(area: Area): Storage {
    return new Proxy(area, { ownKeys: () => [...area.#kept.keys()], getOwnPropertyDescriptor }) as never;
    function getOwnPropertyDescriptor(): PropertyDescriptor {
      return { enumerable: true, configurable: true };
    }
  }

  readonly getItem = (name: string): string | null => this.#kept.get(name) ?? null;
  readonly removeItem = (name: string): void => void this.#kept.delete(name);
  readonly setItem = (name: string, value: string): void => {
    if (this.full) throw new DOMException("full", "QuotaExceededError");
    this.#kept.set(name, value);
  };
}

test("what the browser refuses to keep is kept until the page ends", () => {
  const store = new Store(() => {
    throw new DOMException("no storage here", "SecurityError");
  });
  expect([store.get("a"), store.names("")]).toEqual([null, []]);
  store.set("a", "1");
  expect([store.get("a"), store.names("")]).toEqual(["1", ["a"]]);
  store.remove("a");
  expect([store.get("a"), store.names("")]).toEqual([null, []]);
});

test("of a full storage the newest value counts, and what fits again is kept by the browser", () => {
  const area = new Area();
  const storage = Area.of(area);
  const store = new Store(() => storage);
  store.set("x.a", "old");
  area.full = true;
  store.set("x.a", "new");
  store.set("x.b", "1");
  expect([store.get("x.a"), store.names("x.").sort()]).toEqual(["new", ["x.a", "x.b"]]);
  area.full = false;
  store.set("x.b", "2");
  expect([area.getItem("x.b"), store.get("x.b")]).toEqual(["2", "2"]);
  store.remove("x.a");
  expect([store.get("x.a"), area.getItem("x.a")]).toEqual([null, null]);
});
