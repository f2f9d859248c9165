/** The list as a file: of what was sent by whoever is here, with the filters in force. */
import { address } from "../api";
import { h } from "../dom";
import type { Filters } from "./rows";

const FORMATS = ["csv", "json"] as const;

/** Links that download it. The service writes it page by page, so that its length costs the browser nothing. */
export function makeExport(current: () => Filters): HTMLElement {
  const links = FORMATS.map((format) =>
    h(
      "a",
      {
        href: addressOf(format, {}),
        download: `history.${format}`,
        // Only at the press: what the filters then are counts.
        onclick: (event: MouseEvent) =>
          ((event.currentTarget as HTMLAnchorElement).href = addressOf(format, current())),
      },
      format.toUpperCase(),
    ),
  );
  return h("p", { class: "export" }, "Export what you sent: ", ...links);
}

/** The history calls a part of the name otherwise than the list does, and is always the caller's own. */
function addressOf(format: (typeof FORMATS)[number], filters: Filters): string {
  const { name } = filters;
  return address("api/ingestion/history/export", {
    format,
    ...filters,
    filename: name,
    name: null,
    mine: null,
  }).href;
}
