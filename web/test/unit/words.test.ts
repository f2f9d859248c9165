import { readdirSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test, vi } from "vitest";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8000/" });
const { WORDS, sentence, wordsOf } = await import("../../src/words");
const { Problem, problemOf, Unreachable } = await import("../../src/api");

const PAGES = resolve(import.meta.dirname, "../../../docs/errors");

test("every problem of the service has words of its own", () => {
  const slugs = readdirSync(PAGES).map((name) => name.replace(/\.md$/, ""));
  expect(slugs.length).toBeGreaterThan(40);
  expect(slugs.filter((slug) => !(slug in WORDS))).toEqual([]);
});

test("words are sentences, and say what to do", () => {
  for (const [what, cure] of Object.values(WORDS)) {
    expect(what).toMatch(/^[A-Z].*\.$/);
    expect(cure).toMatch(/^[A-Z].*\.$/);
  }
});

test("a problem that is new here speaks for itself", () => {
  const problem = new Problem(409, "http://host/errors/brand-new", "Something new", "do this about it", null);
  expect(wordsOf(problem)).toEqual({ what: "Something new.", cure: "do this about it" });
});

test("no answer is told as such", () => {
  expect(sentence(new Unreachable("x"))).toBe(
    "The service cannot be reached. Check the network; it goes on by itself.",
  );
});

test("what a proxy answers in place of the service is a problem too", () => {
  const problem = problemOf(502, "<html>Bad gateway</html>", "7");
  expect([problem.status, problem.slug, problem.retryAfter, problem.passing]).toEqual([502, "", 7, true]);
});

test("only what passes by itself is tried again", () => {
  const passing = [400, 401, 403, 404, 408, 409, 410, 413, 422, 423, 429, 500, 502, 503, 504, 507].filter(
    (status) => problemOf(status, "", null).passing,
  );
  expect(passing).toEqual([408, 423, 429, 500, 502, 503, 504]);
});

const gone = (upload_status: string, error: string | null) =>
  problemOf(410, JSON.stringify({ type: "http://host/errors/upload-gone", upload_status, error }), null);

test("an upload that ended says how, and why", () => {
  expect(sentence(gone("failed", "the upload is refused: it has a virus"))).toBe(
    "The service did not take this file: the upload is refused: it has a virus. " +
      "To begin anew, remove it from the list and add it again.",
  );
  expect(sentence(gone("aborted", null))).toBe(
    "This upload was ended from somewhere else. To begin anew, remove it from the list and add it again.",
  );
});

test("what exactly is wrong with a file or an entry is said in the service's own words", () => {
  const detail = "a.csv: a quote is not closed (line 3, column 7)";
  expect(wordsOf(new Problem(422, "http://host/errors/content-invalid", "Title", detail, null))).toEqual({
    what: "The file is not what its name says: a.csv: a quote is not closed (line 3, column 7).",
    cure: "Mend it where the details say, and add it again.",
  });
  for (const slug of ["invalid-request", "upload-refused"]) {
    const { what } = wordsOf(new Problem(422, `http://host/errors/${slug}`, "", "the reason", null));
    expect(what).toMatch(/[a-z]: the reason\.$/);
  }
  expect(
    wordsOf(new Problem(507, "http://host/errors/storage-full", "", "/srv/data is full", null)).what,
  ).toBe("The service's disk is full.");
});
