;;; greencode-lsp.el --- GreenCode run by lsp-mode  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: MIT

;;; Commentary:

;; (require 'greencode-lsp) adds greencode-lsp to lsp-mode 10 or newer beside the servers it runs.  The ghost text is
;; lsp-mode's own inline completion; `greencode-mode' adds the mode line and the commands.

;;; Code:

(require 'lsp-mode)
(require 'lsp-inline-completion)
(require 'greencode)

(defcustom greencode-lsp-languages '("python" "java")
  "The language ids for which lsp-mode starts greencode-lsp."
  :type '(repeat string)
  :group 'greencode)

(defun greencode-lsp-workspace ()
  "Return lsp-mode's workspace of the current buffer where it is greencode-lsp."
  (cl-find 'greencode (lsp-workspaces) :key #'lsp--workspace-server-id))

(add-hook 'greencode-server-functions #'greencode-lsp-workspace)

(defun greencode-lsp--plist (value)
  "Return VALUE, an object of lsp-mode, as a plist."
  (cond ((hash-table-p value)
         (cl-loop for key being the hash-keys of value using (hash-values inner)
                  nconc (list (intern (format ":%s" key)) (greencode-lsp--plist inner))))
        ((vectorp value) (cl-map 'vector #'greencode-lsp--plist value))
        (t value)))

(cl-defmethod greencode-live-p ((workspace lsp--workspace))
  "Return non-nil where WORKSPACE is running."
  (eq 'initialized (lsp--workspace-status workspace)))

(cl-defmethod greencode-draws-ghost-p ((_workspace lsp--workspace))
  "Leave the ghost text to lsp-mode."
  nil)

(cl-defmethod greencode-notify ((workspace lsp--workspace) method params)
  "Send WORKSPACE the notification METHOD with PARAMS."
  (with-lsp-workspace workspace (lsp-notify method params)))

(cl-defmethod greencode-request ((workspace lsp--workspace) method params on-result &optional on-error)
  "Send WORKSPACE the request METHOD with PARAMS.
ON-RESULT and ON-ERROR are those of the generic function."
  (with-lsp-workspace workspace
    (lsp-request-async method params
                       (lambda (result) (funcall on-result (greencode-lsp--plist result)))
                       :mode 'detached
                       :error-handler (lambda (error)
                                        (when on-error (funcall on-error (lsp:json-error-message error))))))
  #'ignore)

(defun greencode-lsp--initialized (workspace)
  "Keep the text of WORKSPACE out of the popup, since it comes as ghost text."
  ;; lsp-mode 10 does not claim inline completion, so the server offers both
  (remhash "completionProvider" (lsp--workspace-server-capabilities workspace)))

(defun greencode-lsp--opened ()
  "Add the mode line and the keys to a buffer that lsp-mode has configured."
  (when (greencode-lsp-workspace)
    (greencode-close)                   ; on the package's own connection
    (setq-local lsp-inline-completion-inhibit-predicates ; a plain list, which `add-hook' would put t into
                (cl-adjoin #'greencode-popup-visible-p lsp-inline-completion-inhibit-predicates))
    (greencode-mode 1)))

(add-hook 'lsp-configure-hook #'greencode-lsp--opened)

(lsp-register-custom-settings
 (mapcar (lambda (row)
           (let ((name (nth 1 row)))
             (list (concat "greencode." name)
                   (lambda () (cdr (assoc name (greencode-settings)))))))
         greencode--settings))

(lsp-register-client
 (make-lsp-client
  :new-connection (lsp-stdio-connection #'greencode-program)
  :activation-fn (lambda (file mode)
                   (and (null (file-remote-p file))
                        (null (greencode-refusal))
                        (funcall (apply #'lsp-activate-on greencode-lsp-languages) file mode)))
  :add-on? t
  :server-id 'greencode
  :initialization-options (lambda () (list :greencode (greencode-section-of nil)))
  :initialized-fn #'greencode-lsp--initialized
  :notification-handlers
  (lsp-ht ("greencode/status"
           (lambda (workspace status) (greencode-take-status workspace (greencode-lsp--plist status)))))))

;;;; Keys

(defun greencode-lsp--accept-match (regexp)
  "Insert what REGEXP matches of the ghost text, and ask again."
  (let* ((item (elt lsp-inline-completion--items lsp-inline-completion--current))
         (text (lsp:inline-completion-item-insert-text item)))
    (lsp-inline-completion-cancel)
    (when (and (stringp text) (string-match regexp text))
      (if (= (match-end 0) (length text)) (insert text)
        (insert (match-string 0 text))
        ;; the server still knows the rest: no new computation
        (lsp-inline-completion-display 'implicit)))))

(defun greencode-lsp-accept-word ()
  "Insert the ghost text's next word."
  (interactive "*")
  (greencode-lsp--accept-match greencode-word-regexp))

(defun greencode-lsp-accept-line ()
  "Insert the ghost text up to the end of its line."
  (interactive "*")
  (greencode-lsp--accept-match greencode-line-regexp))

(let ((map lsp-inline-completion-active-map))
  (lsp-inline-completion--define-key map (kbd "TAB") #'lsp-inline-completion-accept 'keep)
  (lsp-inline-completion--define-key map (kbd "<tab>") #'lsp-inline-completion-accept 'keep)
  (lsp-inline-completion--define-key map [remap forward-word] #'greencode-lsp-accept-word 'keep)
  (lsp-inline-completion--define-key map [remap move-end-of-line] #'greencode-lsp-accept-line 'keep))

;; two seconds by default; what is computed for each pause is not wasted, since the server drops superseded requests
(when (equal lsp-inline-completion-idle-delay 2)
  (setq lsp-inline-completion-idle-delay 0.15))

(provide 'greencode-lsp)
;;; greencode-lsp.el ends here
