;;; greencode-eglot.el --- GreenCode run by Eglot  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: MIT

;;; Commentary:

;; For modes in which greencode-lsp is Eglot's server: see `greencode-eglot-register'.  Eglot keeps the connection and
;; the documents; the ghost text, which Eglot does not know, is `greencode-mode's, turned on where Eglot manages a buffer.

;;; Code:

(require 'eglot)
(require 'greencode)

(defclass greencode-eglot-server (eglot-lsp-server) ()
  :documentation "The server greencode-lsp under Eglot.")

(defun greencode-eglot-current ()
  "Return Eglot's server of the current buffer where it is greencode-lsp."
  (let ((server (eglot-current-server)))
    (and (cl-typep server 'greencode-eglot-server) server)))

(add-hook 'greencode-server-functions #'greencode-eglot-current)

(defun greencode--eglot-managed ()
  "Follow Eglot: the mode is on where it manages the buffer by greencode-lsp."
  (when (greencode-eglot-current)
    (greencode-close)                   ; on the package's own connection
    (greencode-mode 1)))

(add-hook 'eglot-managed-mode-hook #'greencode--eglot-managed)

(cl-defmethod eglot-client-capabilities ((_server greencode-eglot-server))
  "Claim inline completion, so that the same text does not come in the popup too."
  (let ((capabilities (cl-call-next-method)))
    (plist-put capabilities :textDocument
               (append '(:inlineCompletion (:dynamicRegistration :json-false))
                       (plist-get capabilities :textDocument)))))

(cl-defmethod eglot-initialization-options ((_server greencode-eglot-server))
  "Return the first settings."
  (list :greencode (greencode-section-of nil)))

(cl-defmethod eglot-handle-notification ((server greencode-eglot-server) (_method (eql 'greencode/status))
                                         &rest status)
  "Take STATUS of SERVER."
  (greencode-take-status server status))

(cl-defmethod eglot-handle-request ((_server greencode-eglot-server) (_method (eql 'workspace/configuration))
                                    &key items)
  "Answer ITEMS with our settings, `eglot-workspace-configuration' over them."
  (let ((theirs (cl-call-next-method)))
    (vconcat (cl-mapcar (lambda (item section)
                          (let ((merged (greencode-section-of (plist-get item :scopeUri))))
                            (when (listp section)
                              (cl-loop for (key value) on section by #'cddr
                                       ;; a project's .dir-locals.el sets it without a question
                                       unless (memq key '(:model :device :precision :numeric))
                                       do (puthash (substring (symbol-name key) 1) value merged)))
                            merged))
                        items theirs))))

(cl-defmethod jsonrpc-connection-send ((server greencode-eglot-server) &rest arguments
                                    &key method &allow-other-keys)
  "Send SERVER the message of ARGUMENTS.
Where METHOD carries settings, ours alone: those of a project,
in `eglot-workspace-configuration', are pulled and sorted out."
  (if (eq method :workspace/didChangeConfiguration)
      (cl-call-next-method
       server :method method
       :params (list :settings (list :greencode (with-temp-buffer (greencode-section)))))
    (apply #'cl-call-next-method server arguments)))

(cl-defmethod greencode-sync ((server greencode-eglot-server))
  "Have Eglot send SERVER the buffer's latest text."
  (when (jsonrpc-running-p server)
    (eglot--signal-textDocument/didChange) ; there is no public way to have it now
    t))

(cl-defmethod greencode-document ((_server greencode-eglot-server))
  "Return the identifier of the current buffer."
  (eglot--TextDocumentIdentifier))

(cl-defmethod greencode-encoding ((server greencode-eglot-server))
  "Return what SERVER counts columns in; Eglot negotiates it from version 1.15 on."
  (intern (or (plist-get (eglot--capabilities server) :positionEncoding) "utf-16")))

(provide 'greencode-eglot)
;;; greencode-eglot.el ends here
