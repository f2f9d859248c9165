/** In place of `@transloadit/prettier-bytes`, by which Uppy would count as disks are not sold: one file has one size. */
export { size as prettierBytes } from "../format";
