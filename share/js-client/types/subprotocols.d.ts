/**
 * The header `Authorization` as subprotocols of a browser's WebSocket, which takes no headers: in the query of its address,
 * logs may show it.
 * @param {Record<string, string>} headers
 * @returns {{protocols: string[], others: Record<string, string>}} none without that header; and the other headers
 */
export declare function subprotocols(headers: Record<string, string>): {
    protocols: string[];
    others: Record<string, string>;
};
